"""The shipped encoder: 64 components, 64 pixels a side, for coloured shapes (`transforms.demo.train` made it).

It is a model of open_clip. But to import open_clip is to import torchvision, timm and torch's compiler, which takes
longer than torch itself and all of a search; so its two halves are put together of torch's own layers. The fingerprint
and the vectors of texts are those of open_clip, bit for bit, and those of pictures but for their last bits.
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
from transforms.encoders.demo_towers import WIDENED, PictureTower, TextTower
from transforms.encoders.device import choose_device, inference, inference_dtype, to_array, to_tensor
from transforms.encoders.normalization import Normalization
from transforms.encoders.resizing import Resizing
from transforms.encoders.weights import check_checkpoint, fingerprint, resized_fingerprint

if TYPE_CHECKING:
    import PIL.Image

    from transforms.encoders.open_clip_encoder import OpenClipEncoder

DEMO_MODEL: Final = "pixdex-demo"
DEMO_FOLDER: Final = Path(__file__).parent.parent / "demo"
_WEIGHTS: Final = DEMO_FOLDER / "weights.safetensors"
_CONFIG: Final = DEMO_FOLDER / f"{DEMO_MODEL}.json"

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION: Final = (0.26862954, 0.26130258, 0.27577711)
_PREPROCESS: Final = {
    "size": 64,
    "mode": "RGB",
    "mean": _MEAN,
    "std": _DEVIATION,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""What open_clip does with pictures for a model that says nothing else: part of the fingerprint."""


class DemoEncoder:
    """Pictures and texts by towers of its own; only as Pillow resizes pictures, it is open_clip that prepares them."""

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
        self._texts = TextTower(self.dim, **config["text_cfg"])
        self._texts.load_state_dict({name: tensors[name] for name in self._texts.state_dict()})
        self._texts.eval().requires_grad_(False).to(device)
        sight = config["vision_cfg"]
        self._pictures = PictureTower(
            {name.removeprefix("visual."): tensor.float() for name, tensor in tensors.items()},
            layers=sight["layers"],
            heads=sight["width"] * WIDENED // sight["head_width"],
        )
        self._pictures.eval().to(device)
        self._tokenize = _tokenizer(config["text_cfg"]["context_length"])
        side = sight["image_size"]
        self._resize = Resizing(side, (side, side), "bicubic")
        self._normalize = Normalization(_MEAN, _DEVIATION)
        self._lock = threading.Lock()
        self._is_earlier = False
        self._by_pillow: OpenClipEncoder | None = None

    def earlier(self) -> "DemoEncoder":
        """The same model, with pictures that Pillow resizes; it shares the weights of texts."""
        earlier = copy.copy(self)
        earlier.fingerprint, earlier._is_earlier = self._of_before, True
        return earlier

    def preprocess(self, image: "PIL.Image.Image") -> NDArray[np.float32]:
        """One RGB picture → (3, 64, 64) float32. Safe to call from many threads."""
        return self._opened().preprocess(image) if self._is_earlier else self.preprocess_pixels(np.array(image))

    def preprocess_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3), RGB → (3, 64, 64) float32. Safe to call from many threads."""
        if self._is_earlier:
            return self._opened().preprocess_pixels(pixels)
        return self._normalize(self._resize(pixels))

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, 64, 64) → (n, 64) float32."""
        with inference(self._device, self._dtype):
            return to_array(self._pictures(to_tensor(pixels, self._device)))

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether the tokenizer leaves nothing of it."""
        return are_blank(texts, self._tokenize)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, 64) float32; what exceeds 24 tokens is cut off."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        with inference(self._device, self._dtype):
            return to_array(self._texts(self._tokenize(list(texts)).to(self._device)))

    def _opened(self) -> "OpenClipEncoder":
        """What prepares pictures as Pillow resizes them."""
        from transforms.encoders.open_clip_encoder import open_checkpoint  # noqa: PLC0415 - see above

        with self._lock:
            if self._by_pillow is None:
                self._by_pillow = open_checkpoint(DEMO_MODEL, str(_WEIGHTS), self.device).earlier()
            return self._by_pillow


def open_demo(device: str) -> DemoEncoder:
    """The shipped encoder, on `device` (see `choose_device`)."""
    return DemoEncoder(choose_device(device))


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
