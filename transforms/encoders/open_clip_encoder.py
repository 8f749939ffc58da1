"""Encoders of open_clip (github.com/mlfoundations/open_clip): CLIP, SigLIP and their kin; the demo encoder is one too.

Weights are loaded in float32 and fingerprinted before they go to their device; on a GPU the products run in half
precision under autocast. Checkpoints are read as safetensors or by `torch.load(weights_only=True)`: reading one never
runs its code.
"""

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import PIL.Image
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer

from transforms.encoders.blank import are_blank
from transforms.encoders.demo_encoder import DEMO_FOLDER, DEMO_MODEL
from transforms.encoders.device import choose_device, inference, inference_dtype, to_array, to_tensor
from transforms.encoders.hub import tokenizer_digests
from transforms.encoders.library_errors import one_line
from transforms.encoders.preprocessing import Preprocessing
from transforms.encoders.weights import check_checkpoint, fingerprint
from transforms.errors import UsageError

CONFIG: Final = "open_clip_config.json"
"""What makes a folder one of open_clip's layout, with its weights and its tokenizer beside it."""
WEIGHTS: Final = ("open_clip*.safetensors", "open_clip*.bin", "*.safetensors", "*.bin")
_SIGHT: Final = ("mean", "std", "interpolation", "resize_mode")
"""How a model sees pictures, besides their size, which is the model's."""


class OpenClipEncoder:
    """An open_clip model with its own tokenizer and preprocessing, ready for inference.

    Pictures are preprocessed as the model's authors did (resize of the shorter side, centre crop, mean and deviation),
    but resized by torch where `Resizing` can, and no more by Pillow: the shape is (3, height, width). `dtype` is what
    products run in, for the record only.
    """

    modalities = frozenset({"image", "text"})

    def __init__(
        self,
        name: str,
        device: torch.device,
        *,
        weights: str | None,
        force_quick_gelu: bool = False,
        tokenizer: Path | None = None,
        sight: Mapping[str, object] | None = None,
    ) -> None:
        """Builds a model and loads its weights; open_clip's errors pass through.

        Args:
            name: of the model, or `local-dir:` and its folder.
            device: where it goes.
            weights: a pretrained tag or a file; None if they are in the folder.
            force_quick_gelu: whether it was trained with QuickGELU, whatever its configuration says.
            tokenizer: a folder with the files of its tokenizer, where that is one of Hugging Face.
            sight: how pictures are prepared, where nothing else says so.
        """
        config = open_clip.get_model_config(name)
        self._tokenize = _tokenizer(name, config["text_cfg"], tokenizer)
        model, _, transform = open_clip.create_model_and_transforms(
            name,
            pretrained=weights,
            precision="fp32",
            device="cpu",
            force_quick_gelu=force_quick_gelu,
            weights_only=True,
            **{f"image_{key}": value for key, value in (sight or {}).items()},
        )
        files = {"vision": config["vision_cfg"]} if weights is None else {}
        if tokenizer is not None:
            files["tokenizer"] = tokenizer_digests(tokenizer)
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
                **files,
            },
        )
        self.fingerprint = self._preprocess.fingerprint(self._of_before)
        self.device = str(device)
        self._device, self._dtype = device, inference_dtype(device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._model = model.eval().requires_grad_(False).to(device)

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
    """The model with the weights of a local file. Raises UsageError if that is missing, broken or another model's.

    A file of weights does not say how pictures are prepared: it is done as all published weights of the model want it.
    Files of a tokenizer are taken from the folder of the weights, where the model needs some and they are there.
    """
    _check_model(model)
    chosen = choose_device(device)
    check_checkpoint(Path(checkpoint))
    folder = Path(checkpoint).parent
    needs_files = "hf_tokenizer_name" in open_clip.get_model_config(model)["text_cfg"]
    tokenizer = folder if needs_files and tokenizer_digests(folder) else None
    try:
        return OpenClipEncoder(model, chosen, weights=checkpoint, tokenizer=tokenizer, sight=_published_sight(model))
    except UsageError:
        raise
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
    except UsageError:
        raise
    except Exception as error:  # tokenizers ask for packages and files of their own
        raise UsageError(
            f"cannot open {model} with the weights {tag!r}: {one_line(error)}: install what it asks for, "
            "or delete the downloaded file and try again"
        ) from error


def open_folder(folder: Path, device: str) -> OpenClipEncoder:
    """The model of a folder in the layout of Hugging Face's hub: configuration, weights, and files of its tokenizer.

    Raises UsageError if something is missing or broken, or if the model asks for code of its own.
    """
    chosen = choose_device(device)
    try:
        text = (folder / CONFIG).read_text()
        config = json.loads(text)["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / CONFIG} describes no model: {one_line(error)}: copy the folder anew") from error
    if "trust_remote_code" in text:
        raise UsageError(f"{folder / CONFIG} says trust_remote_code: code of a model is never run")
    weights = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    if not weights:
        raise UsageError(f"{folder} has no weights: open_clip reads open_clip_model.safetensors there")
    check_checkpoint(weights[0])
    try:
        return OpenClipEncoder(
            f"local-dir:{folder}", chosen, weights=None, tokenizer=folder if "hf_tokenizer_name" in config else None
        )
    except UsageError:
        raise
    except Exception as error:  # open_clip fails on foreign tensors with whatever their shapes run into
        raise UsageError(
            f"{folder} does not open as a model of open_clip: {one_line(error)}: copy the folder anew"
        ) from error


def _tokenizer(name: str, config: Mapping[str, Any], folder: Path | None) -> Any:
    """What turns texts into tokens. Raises UsageError if its files or the package that reads them cannot be had."""
    wanted = config.get("hf_tokenizer_name", "")
    if not wanted:
        return open_clip.get_tokenizer(name)
    if folder is not None and not tokenizer_digests(folder):
        raise UsageError(
            f"{folder} has no tokenizer: put that of {wanted} there (tokenizer.json and its configuration)"
        )
    try:
        if folder is None:
            return open_clip.get_tokenizer(name, trust_remote_code=False)
        options = {**config.get("tokenizer_kwargs", {}), "trust_remote_code": False}
        mode, length = (
            config.get("tokenizer_mode"),
            config.get("context_length", DEFAULT_CONTEXT_LENGTH),
        )
        return HFTokenizer(str(folder), context_length=length, tokenizer_mode=mode, **options)
    except ImportError as error:
        raise UsageError(f"the tokenizer of {name} needs: pip install 'pixdex[st]' ({one_line(error)})") from error
    except Exception as error:  # each network library raises its own kind
        beside = "in its folder" if folder else f"beside the weights, from {wanted} of Hugging Face's hub"
        raise UsageError(
            f"cannot open the tokenizer of {name}: {one_line(error)}: put its files (tokenizer.json, "
            f"tokenizer_config.json) {beside}"
        ) from error


def _published_sight(model: str) -> dict[str, object]:
    """How pictures are prepared for all weights that are published of a model; nothing where these differ."""
    known = [open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)]
    each = [{key: config[key] for key in _SIGHT if config.get(key)} for config in known]
    return each[0] if each and all(other == each[0] for other in each) else {}


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
