"""Rows with vectors, own or ready, behind one reader."""
