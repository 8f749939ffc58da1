"""What is published: manifest, numbers, tables, key tables, tombstones.

It never changes once it lies on storage, and checksums cover every field: a new one needs a reader of what was before.
It is written by `tasks`, read by `search`, `upkeep` and every reindex.
"""
