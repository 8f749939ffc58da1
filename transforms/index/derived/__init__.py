"""Vectors made of other vectors of an index: each with its neighbours added, or few that stand for many."""
