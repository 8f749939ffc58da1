"""Encoders of timm (github.com/huggingface/pytorch-image-models): DINO and the like, which know pictures and no texts.

The vector is the model's pooled feature, the input of the classifier that it was trained with.
"""

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image
import timm
import timm.models
import torch
from numpy.typing import NDArray
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from transforms.encoders.device import choose_device, inference, inference_dtype, to_array, to_tensor
from transforms.encoders.library_errors import one_line
from transforms.encoders.preprocessing import Preprocessing
from transforms.encoders.weights import check_checkpoint, fingerprint
from transforms.errors import UsageError

CONFIG: Final = "config.json"
"""What makes a folder one of timm's layout, with its weights beside it."""
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder:
    """A timm model without its classifier, ready for inference, with the preprocessing of its published weights.

    Pictures are resized by torch where `Resizing` can, and no more by Pillow.
    """

    modalities = frozenset({"image"})

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        """Takes a model with its weights, in float32 on the CPU, and moves it to `device`."""
        config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]  # timm leaves it without types
        model = model.eval().requires_grad_(False)
        with torch.inference_mode():
            self.dim = int(model(torch.zeros(1, *config["input_size"])).shape[-1])
        self._preprocess = Preprocessing(create_transform(**config, is_training=False).transforms, is_fast=True)
        self._of_before = fingerprint(
            model.state_dict().items(), {"format": 1, "library": "timm", "dim": self.dim, "preprocess": config}
        )
        self.fingerprint = self._preprocess.fingerprint(self._of_before)
        self.device = str(device)
        self._device, self._dtype = device, inference_dtype(device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._model = model.to(device)

    def earlier(self) -> "TimmEncoder":
        """The same model, with pictures that Pillow resizes; it shares the weights."""
        earlier = copy.copy(self)
        earlier.fingerprint, earlier._preprocess = self._of_before, self._preprocess.earlier()
        return earlier

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """One RGB picture → (3, height, width) float32. Safe to call from many threads."""
        return self._preprocess(image)

    def preprocess_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(height, width, 3), RGB → (3, height, width) float32. Safe to call from many threads."""
        return self._preprocess(pixels)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, height, width) → (n, dim) float32."""
        with inference(self._device, self._dtype):
            return to_array(self._model(to_tensor(pixels, self._device)))

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raises UsageError: there is no text in this space."""
        raise UsageError("timm encoders know pictures only: choose an open_clip encoder to embed or search texts")


def open_timm(name: str, checkpoint: str, device: str) -> TimmEncoder:
    """The model with the weights of a local file, or with its published ones (a download) if `checkpoint` is empty."""
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        names = f"did you mean {', '.join(nearest)}?" if nearest else "timm.list_models() lists them"
        raise UsageError(f"timm has no model {name!r}: {names}")
    chosen = choose_device(device)
    if checkpoint:
        check_checkpoint(Path(checkpoint))
    try:
        model = timm.create_model(name, pretrained=not checkpoint, num_classes=0)
    except Exception as error:  # each network library raises its own kind
        raise UsageError(
            f"cannot open timm's weights of {name}: {one_line(error)}: check the name of the weights and the network, "
            "or fetch them elsewhere and write timm:MODEL@CHECKPOINT"
        ) from error
    if checkpoint:
        _load_checkpoint(model, name, checkpoint)
    return TimmEncoder(model, chosen)


def open_folder(folder: Path, device: str) -> TimmEncoder:
    """The model of a folder in the layout of Hugging Face's hub, whose `config.json` says which and how it sees.

    Raises UsageError if there are no weights, broken ones, or another model's.
    """
    chosen = choose_device(device)
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise UsageError(f"{folder} has no weights: timm reads {' or '.join(WEIGHTS)}")
    check_checkpoint(weights)
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
        return TimmEncoder(model, chosen)
    except Exception as error:  # timm fails on foreign tensors with whatever their shapes run into
        raise UsageError(
            f"{folder} does not open as a model of timm: {one_line(error)}: copy it anew, or name the model and its "
            "weights in timm:MODEL@CHECKPOINT"
        ) from error


def _load_checkpoint(model: torch.nn.Module, name: str, checkpoint: str) -> None:
    """Loads every tensor of the model from the file, which may hold the classifier besides and nothing else."""
    try:
        keys = timm.models.load_checkpoint(model, checkpoint, strict=False, weights_only=True)
    except Exception as error:  # timm fails on foreign tensors with whatever their shapes run into
        raise UsageError(
            f"checkpoint {checkpoint} does not open as {name}: {one_line(error)}: name the model that it was trained as"
        ) from error
    classifiers = timm.get_pretrained_cfg_value(name, "classifier") or ()
    heads = tuple(f"{head}." for head in ([classifiers] if isinstance(classifiers, str) else classifiers))
    odd = [*keys.missing_keys, *(key for key in keys.unexpected_keys if not key.startswith(heads))]
    if odd:
        raise UsageError(
            f"checkpoint {checkpoint} does not open as {name}: {len(odd)} tensors are missing or too many, {odd[0]!r} "
            "is one: name the model that it was trained as"
        )
