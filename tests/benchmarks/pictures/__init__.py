"""Benchmarks of pictures: what decoding and preprocessing take."""
