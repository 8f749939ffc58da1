"""What merges shard indexes: what is read, into one faiss file, into segments."""
