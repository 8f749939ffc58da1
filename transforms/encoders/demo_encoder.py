"""The shipped encoder: 64 components, 64 pixels a side, for coloured shapes (`transforms.demo.train` made it).

It is a model of open_clip. But to import open_clip is to import torchvision, timm and torch's compiler, which takes
longer than torch itself and all of a search; so its text tower, two blocks, is put together here of torch's own layers,
and open_clip is opened with the first picture. Vectors and fingerprint are those of open_clip, bit for bit.
"""

import copy
import importlib.util
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from transforms.encoders.blank import are_blank
from transforms.encoders.device import choose_device, inference, inference_dtype, to_array
from transforms.encoders.weights import check_checkpoint, fingerprint, resized_fingerprint

if TYPE_CHECKING:
    import PIL.Image

    from transforms.encoders.open_clip_encoder import OpenClipEncoder

DEMO_MODEL: Final = "pixdex-demo"
DEMO_FOLDER: Final = Path(__file__).parent.parent / "demo"
_WEIGHTS: Final = DEMO_FOLDER / "weights.safetensors"
_CONFIG: Final = DEMO_FOLDER / f"{DEMO_MODEL}.json"

_PREPROCESS: Final = {
    "size": 64,
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""What open_clip does with pictures for a model that says nothing else: part of the fingerprint."""


class DemoEncoder:
    """Texts by a tower of its own; pictures by open_clip, which is imported with the first of them."""

    modalities = frozenset({"image", "text"})

    def __init__(self, device: torch.device) -> None:
        """Loads the weights, in float32."""
        check_checkpoint(_WEIGHTS)
        config = json.loads(_CONFIG.read_text())
        tensors = load_file(_WEIGHTS)
        self.dim: int = config["embed_dim"]
        self._of_before = fingerprint(
            tensors.items(),
            {
                "format": 1,
                "dim": self.dim,
                "preprocess": _PREPROCESS,
                "quick_gelu": False,
                "text": config["text_cfg"],
            },
        )
        self.fingerprint = resized_fingerprint(self._of_before)
        self.device = str(device)
        self._device, self._dtype = device, inference_dtype(device)
        self._texts = _TextTower(self.dim, **config["text_cfg"])
        self._texts.load_state_dict({name: tensors[name] for name in self._texts.state_dict()})
        self._texts.eval().requires_grad_(False).to(device)
        self._tokenize = _tokenizer(config["text_cfg"]["context_length"])
        self._lock = threading.Lock()
        self._opened: OpenClipEncoder | None = None
        self._is_earlier = False

    def earlier(self) -> "DemoEncoder":
        """The same model, with pictures that Pillow resizes; it shares the weights of texts."""
        earlier = copy.copy(self)
        earlier.fingerprint, earlier._is_earlier, earlier._opened = self._of_before, True, None
        return earlier

    def preprocess(self, image: "PIL.Image.Image") -> NDArray[np.float32]:
        """One RGB picture → (3, 64, 64) float32. Safe to call from many threads."""
        return self._pictures().preprocess(image)

    def preprocess_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3), RGB → (3, 64, 64) float32. Safe to call from many threads."""
        return self._pictures().preprocess_pixels(pixels)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, 64, 64) → (n, 64) float32."""
        return self._pictures().encode_images(pixels)

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether the tokenizer leaves nothing of it."""
        return are_blank(texts, self._tokenize)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, 64) float32; what exceeds 24 tokens is cut off."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        with inference(self._device, self._dtype):
            return to_array(self._texts(self._tokenize(list(texts)).to(self._device)))

    def _pictures(self) -> "OpenClipEncoder":
        from transforms.encoders.open_clip_encoder import open_checkpoint  # noqa: PLC0415 - see above

        with self._lock:
            if self._opened is None:
                opened = open_checkpoint(DEMO_MODEL, str(_WEIGHTS), self.device)
                self._opened = opened.earlier() if self._is_earlier else opened
            return self._opened


def open_demo(device: str) -> DemoEncoder:
    """The shipped encoder, on `device` (see `choose_device`)."""
    return DemoEncoder(choose_device(device))


class _TextTower(torch.nn.Module):
    """The text half of a CLIP: a causal transformer, read off at the last token (Radford et al. 2021, §2.4).

    Its parts have the names that open_clip's weights have.
    """

    def __init__(self, dim: int, *, context_length: int, vocab_size: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(vocab_size, width)
        self.positional_embedding = torch.nn.Parameter(torch.empty(context_length, width))
        self.transformer = torch.nn.ModuleDict(
            {"resblocks": torch.nn.Sequential(*(_Block(width, heads, context_length) for _ in range(layers)))}
        )
        self.ln_final = torch.nn.LayerNorm(width)
        self.text_projection = torch.nn.Parameter(torch.empty(width, dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 (n, context_length) → (n, dim)."""
        states = self.token_embedding(tokens) + self.positional_embedding
        states = self.ln_final(self.transformer["resblocks"](states))
        # The token that ends a text has the highest number.
        ends = states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
        vectors: torch.Tensor = ends @ self.text_projection
        return vectors


class _Block(torch.nn.Module):
    """Attention to the tokens before, then a layer of four times the width; each behind a norm, and added."""

    mask: torch.Tensor

    def __init__(self, width: int, heads: int, context_length: int) -> None:
        super().__init__()
        self.ln_1 = torch.nn.LayerNorm(width)
        self.attn = torch.nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = torch.nn.LayerNorm(width)
        self.mlp = torch.nn.Sequential()
        self.mlp.add_module("c_fc", torch.nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", torch.nn.GELU())
        self.mlp.add_module("c_proj", torch.nn.Linear(4 * width, width))
        ahead = torch.full((context_length, context_length), float("-inf")).triu_(1)
        self.register_buffer("mask", ahead, persistent=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) → the same."""
        normed = self.ln_1(states)
        attended, _ = self.attn(normed, normed, normed, need_weights=False, attn_mask=self.mask.to(normed.dtype))
        states = states + attended
        added: torch.Tensor = states + self.mlp(self.ln_2(states))
        return added


def _tokenizer(context_length: int) -> Callable[[list[str]], torch.Tensor]:
    """The tokenizer of open_clip, out of its own file: that imports torch only, its package everything."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.submodule_search_locations is not None
    spec = importlib.util.spec_from_file_location(
        "pixdex_open_clip_tokenizer", Path(package.submodule_search_locations[0]) / "tokenizer.py"
    )
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Callable[[list[str]], torch.Tensor], module.SimpleTokenizer(context_length=context_length))
