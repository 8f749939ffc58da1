"""Embeddings that are ready, which stay where they are: their files, and what is beside them."""
