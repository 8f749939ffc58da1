"""Ready embeddings: pairs of pictures and texts, their encoder, and what stands beside them."""
