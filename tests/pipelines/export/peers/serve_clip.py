"""Starts `clip-retrieval back` in an export, with the tests' encoder in the place of a model with its weights.

    /path/of/clip-retrieval/python serve_clip.py REPOSITORY PORT     # in the folder of the export

All else is clip-retrieval's: it reads indices_paths.json, opens indexes and metadata, and answers over HTTP.
"""

import sys
from typing import Any

import all_clip  # type: ignore[import-not-found]  # it has an environment of its own
import numpy as np
import torch


class _Model:
    """Vectors of texts as the tests' encoder makes them."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def encode_text(self, tokens: "_Texts") -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._encoder.encode_texts(tokens.texts), np.float32))


class _Texts:
    """Texts where a tokenizer has numbers of words."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def to(self, _device: str) -> "_Texts":
        return self


def main() -> None:
    repository, port = sys.argv[1:]
    sys.path.insert(0, repository)
    from tests.encoders import TinyEncoder  # noqa: PLC0415 - found only now

    all_clip.load_clip = lambda *_args, **_settings: (_Model(TinyEncoder()), None, _Texts)
    from clip_retrieval.clip_back import clip_back  # type: ignore[import-not-found]  # noqa: PLC0415 - after the stand-in

    clip_back(port=int(port))


if __name__ == "__main__":
    main()
