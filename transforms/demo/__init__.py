"""The shipped demo: pictures drawn by seed, captions true of them, and a tiny encoder trained on both, all offline."""

from transforms.demo.corpus import write_corpus

__all__ = ["write_corpus"]
