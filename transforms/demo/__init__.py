"""The shipped demo: pictures drawn by seed, captions true of them, and a tiny encoder trained on both, all offline.

Whoever changes a drawing or a caption trains the weights anew. `encoders` opens them, `pipelines.demo` shows them.
"""

from transforms.demo.corpus import write_corpus

__all__ = ["write_corpus"]
