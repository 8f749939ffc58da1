"""Where items come from: folders and globs of pictures, CSV files, ready embeddings; all become item tables.

Keys and versions are made here: a change of how makes every item of a root new. Listing on many workers is in `stages`;
what opens an item is in `tasks.embed` and `shards`.
"""
