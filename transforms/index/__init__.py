"""The vector index: choose, assign, encode, scan, and the layout of its file. No module imports Beam.

It knows faiss and numpy, and nothing of runs; the same input makes the same bytes. `lists` (without faiss) and
`training` lie below; what calls it is in `tasks` and `search`.
"""
