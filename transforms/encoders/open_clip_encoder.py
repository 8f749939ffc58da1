"""Encoders of open_clip (github.com/mlfoundations/open_clip): CLIP, SigLIP and their kin; the demo encoder is one too.

Weights are loaded in float32 and fingerprinted before they go to their device; on a GPU the products run in half
precision under autocast. Checkpoints are read as safetensors or by `torch.load(weights_only=True)`: reading one never
runs its code.
"""

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import torch
from numpy.typing import NDArray

from transforms.encoders.blank import are_blank
from transforms.encoders.demo_encoder import DEMO_FOLDER, DEMO_MODEL
from transforms.encoders.device import choose_device, inference, inference_dtype, to_array, to_tensor
from transforms.encoders.library_errors import one_line
from transforms.encoders.preprocessing import Preprocessing
from transforms.encoders.weights import check_checkpoint, fingerprint
from transforms.errors import UsageError


class OpenClipEncoder:
    """An open_clip model with its own tokenizer and preprocessing, ready for inference.

    Pictures are preprocessed as the model's authors did (resize of the shorter side, centre crop, mean and deviation),
    but resized by torch where `Resizing` can, and no more by Pillow: the shape is (3, height, width). `dtype` is what
    products run in, for the record only.
    """

    modalities = frozenset({"image", "text"})

    def __init__(self, name: str, device: torch.device, *, weights: str, force_quick_gelu: bool = False) -> None:
        """Builds the model `name` and loads `weights`, a pretrained tag or a file; open_clip's errors pass through."""
        config = open_clip.get_model_config(name)
        model, _, transform = open_clip.create_model_and_transforms(
            name,
            pretrained=weights,
            precision="fp32",
            device="cpu",
            force_quick_gelu=force_quick_gelu,
            weights_only=True,
        )
        self.dim: int = config["embed_dim"]
        self._preprocess = Preprocessing(transform.transforms, is_fast=True)
        self._of_before = fingerprint(
            model.state_dict().items(),
            {
                "format": 1,
                "dim": self.dim,
                "preprocess": model.visual.preprocess_cfg,
                "quick_gelu": force_quick_gelu or config.get("quick_gelu", False),
                "text": config["text_cfg"],
            },
        )
        self.fingerprint = self._preprocess.fingerprint(self._of_before)
        self.device = str(device)
        self._device, self._dtype = device, inference_dtype(device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenize = open_clip.get_tokenizer(name)

    def earlier(self) -> "OpenClipEncoder":
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
            return to_array(self._model.encode_image(to_tensor(pixels, self._device)))

    def are_blank(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether the tokenizer leaves nothing of it."""
        return are_blank(texts, self._tokenize)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, dim) float32; what exceeds the model's context (77 tokens for most) is cut off."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        with inference(self._device, self._dtype):
            return to_array(self._model.encode_text(self._tokenize(list(texts)).to(self._device)))


def open_checkpoint(model: str, checkpoint: str, device: str) -> OpenClipEncoder:
    """The model with the weights of a local file. Raises UsageError if that is missing, broken or another model's."""
    _check_model(model)
    chosen = choose_device(device)
    check_checkpoint(Path(checkpoint))
    try:
        return OpenClipEncoder(model, chosen, weights=checkpoint)
    except Exception as error:  # open_clip fails on foreign tensors with whatever their shapes run into
        raise UsageError(
            f"checkpoint {checkpoint} does not open as {model}: {one_line(error)}: "
            "name the model that it was trained as in open_clip:MODEL@CHECKPOINT"
        ) from error


def open_pretrained(model: str, tag: str, device: str) -> OpenClipEncoder:
    """The model with the weights that open_clip publishes under `tag`. Downloads them at first use."""
    _check_model(model)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        known = (
            f"choose one of {', '.join(tags)}" if tags else f"none are published; write open_clip:{model}@CHECKPOINT"
        )
        raise UsageError(f"open_clip has no weights {tag!r} for {model}: {known}")
    chosen = choose_device(device)
    published = open_clip.get_pretrained_cfg(model, tag)
    try:
        open_clip.download_pretrained(published)
    except Exception as error:  # each network library raises its own kind
        raise UsageError(
            f"cannot download the weights {tag!r} of {model}: {one_line(error)}: check the network, or fetch them "
            f"elsewhere and write open_clip:{model}@CHECKPOINT"
        ) from error
    try:
        # Weights trained with QuickGELU must run with it, and open_clip only warns when its config says otherwise.
        return OpenClipEncoder(model, chosen, weights=tag, force_quick_gelu=published.get("quick_gelu", False))
    except Exception as error:  # tokenizers ask for packages and files of their own
        raise UsageError(
            f"cannot open {model} with the weights {tag!r}: {one_line(error)}: install what it asks for, "
            "or delete the downloaded file and try again"
        ) from error


def _check_model(model: str) -> None:
    if DEMO_MODEL not in open_clip.list_models():
        open_clip.add_model_config(DEMO_FOLDER / f"{DEMO_MODEL}.json")
    known = {name.lower(): name for name in open_clip.list_models()}
    if model not in known.values():
        nearest = [known[name] for name in difflib.get_close_matches(model.lower(), known, n=3, cutoff=0.4)]
        names = (
            f"did you mean {', '.join(nearest)}?" if nearest else f"it knows {', '.join(list(known.values())[:5])}, …"
        )
        raise UsageError(f"open_clip has no model {model!r}: {names}")
