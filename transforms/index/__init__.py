"""The vector index: choose, train, add, merge and open. No module imports Beam; lists and merge import no faiss."""
