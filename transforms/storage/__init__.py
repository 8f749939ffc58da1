"""A root on any URL: what creates, commits and uploads, every path, names of objects, parquet files.

All safety rests on one operation, create: the first wins, and is whole. Paths are made in `layout` only; what is stored
is decided in `generations`, `shards` and `index.lists`.
"""
