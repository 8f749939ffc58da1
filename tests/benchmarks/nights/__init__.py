"""Benchmarks of nights: what a reindex costs, whatever changed."""
