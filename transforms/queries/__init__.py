"""Texts and pictures that are looked for: their vectors, and a root that answers them."""

from transforms.queries.root import Root

__all__ = ["Root"]
