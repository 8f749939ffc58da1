"""Rows with vectors, own or ready, behind one reader.

The columns of a shard's file are decided here. `tasks.embed` fills them; vectors are read by `tasks` and
`index.training`, the rest by `search`.
"""
