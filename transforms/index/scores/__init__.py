"""How near vectors are to centroids: scores and their rounding, and bounds of them that cost less."""
