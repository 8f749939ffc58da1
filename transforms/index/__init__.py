"""The vector index: choose, train, add, merge and open. Pure modules; none imports Beam, and lists and merge no faiss."""
