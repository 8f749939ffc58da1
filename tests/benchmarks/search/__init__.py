"""Benchmarks of searches: what they find, and how long they take."""
