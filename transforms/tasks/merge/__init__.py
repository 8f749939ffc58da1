"""What merges shard indexes: what is read, into one faiss file in place, or into segments on object stores.

Memory is bounded by ranges of lists, whatever the number of vectors. The merge of one range is in `index.lists`, the
layout of the faiss file in `index.faiss_file`.
"""
