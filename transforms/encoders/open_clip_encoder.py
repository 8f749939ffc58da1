"""Encoders of open_clip (github.com/mlfoundations/open_clip): CLIP, SigLIP and their kin; the demo encoder is one too.

Weights are loaded in float32 and fingerprinted before they go to their device; on a GPU the products run in half
precision under autocast. Checkpoints are read as safetensors or by `torch.load(weights_only=True)`: reading one never
runs its code.
"""

import contextlib
import difflib
import hashlib
import json
import logging
import pickle
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import open_clip
import PIL.Image
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from transforms.encoders.device import choose_device, inference_dtype
from transforms.encoders.preprocessing import Preprocessing
from transforms.errors import UsageError

_LOG = logging.getLogger(__name__)
_DEMO: Final = Path(__file__).parent.parent / "demo"
_DEMO_MODEL: Final = "pixdex-demo"
_TORCH_ENDINGS: Final = (".pt", ".pth", ".bin", ".ckpt")
_UNUSED = "num_batches_tracked"  # counted in training only: the vectors do not depend on it


class OpenClipEncoder:
    """An open_clip model with its own tokenizer and preprocessing, ready for inference.

    Pictures are preprocessed as the model's authors did (resize of the shorter side, centre crop, mean and deviation):
    the shape is (3, height, width). `dtype` is what products run in, for the record only.
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
        self.fingerprint = _fingerprint(
            model.state_dict().items(),
            {
                "format": 1,
                "dim": self.dim,
                "preprocess": model.visual.preprocess_cfg,
                "quick_gelu": force_quick_gelu or config.get("quick_gelu", False),
                "text": config["text_cfg"],
            },
        )
        self.device = str(device)
        self._dtype = inference_dtype(device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._model = model.eval().requires_grad_(False).to(device)
        self._preprocess = Preprocessing(transform.transforms)
        self._tokenize = open_clip.get_tokenizer(name)

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """One RGB picture → (3, height, width) float32. Safe to call from many threads."""
        return self._preprocess(image)

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, height, width) → (n, dim) float32."""
        writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of memory it could write to
        with self._inference():
            vectors = self._model.encode_image(torch.from_numpy(writable).to(self.device))
        return _to_numpy(vectors)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """n texts → (n, dim) float32; what exceeds the model's context (77 tokens for most) is cut off."""
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        with self._inference():
            vectors = self._model.encode_text(self._tokenize(list(texts)).to(self.device))
        return _to_numpy(vectors)

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(torch.device(self.device).type, self._dtype, enabled=half):
            yield


def open_demo(device: str) -> OpenClipEncoder:
    """The shipped encoder: 64 components, 64 pixels a side, for coloured shapes (`transforms.demo.train` made it)."""
    return open_checkpoint(_DEMO_MODEL, str(_DEMO / "weights.safetensors"), device)


def open_checkpoint(model: str, checkpoint: str, device: str) -> OpenClipEncoder:
    """The model with the weights of a local file. Raises UsageError if that is missing, broken or another model's."""
    _check_model(model)
    chosen = _choose(device)
    _check_checkpoint(Path(checkpoint))
    try:
        return OpenClipEncoder(model, chosen, weights=checkpoint)
    except Exception as error:  # open_clip fails on foreign tensors with whatever their shapes run into
        raise UsageError(
            f"checkpoint {checkpoint} does not open as {model}: {_one_line(error)}: "
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
    chosen = _choose(device)
    published = open_clip.get_pretrained_cfg(model, tag)
    try:
        open_clip.download_pretrained(published)
    except Exception as error:  # each network library raises its own kind
        raise UsageError(
            f"cannot download the weights {tag!r} of {model}: {_one_line(error)}: check the network, or fetch them "
            f"elsewhere and write open_clip:{model}@CHECKPOINT"
        ) from error
    try:
        # Weights trained with QuickGELU must run with it, and open_clip only warns when its config says otherwise.
        return OpenClipEncoder(model, chosen, weights=tag, force_quick_gelu=published.get("quick_gelu", False))
    except Exception as error:  # likewise, and tokenizers ask for packages and files of their own
        raise UsageError(
            f"cannot open {model} with the weights {tag!r}: {_one_line(error)}: install what it asks for, "
            "or delete the downloaded file and try again"
        ) from error


def _choose(device: str) -> torch.device:
    chosen = choose_device(device)
    _LOG.info("encoder on %s (%s)", chosen, "asked for" if device != "auto" else "chosen by auto")
    return chosen


def _check_model(model: str) -> None:
    if _DEMO_MODEL not in open_clip.list_models():
        open_clip.add_model_config(_DEMO / f"{_DEMO_MODEL}.json")
    known = {name.lower(): name for name in open_clip.list_models()}
    if model not in known.values():
        nearest = [known[name] for name in difflib.get_close_matches(model.lower(), known, n=3, cutoff=0.4)]
        names = (
            f"did you mean {', '.join(nearest)}?" if nearest else f"it knows {', '.join(list(known.values())[:5])}, …"
        )
        raise UsageError(f"open_clip has no model {model!r}: {names}")


def _check_checkpoint(path: Path) -> None:
    """Refuses what open_clip would fail on obscurely or read with an unsafe loader; maps the file, reads no tensor."""
    if not path.is_file():
        raise UsageError(f"checkpoint {path} {'is not a file' if path.exists() else 'does not exist'}: check the path")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names: Iterable[object] = file.keys()
        elif path.suffix in _TORCH_ENDINGS:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
            names = state.get("state_dict", state) if isinstance(state, Mapping) else ()
        else:
            raise UsageError(
                f"checkpoint {path} has the ending {path.suffix!r}: give a file that ends with .safetensors, "
                f"{', '.join(_TORCH_ENDINGS)}"
            )
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"checkpoint {path} cannot be read: {_one_line(error)}: fetch it again, or save its tensors as .safetensors"
        ) from error
    if not list(names):
        raise UsageError(f"checkpoint {path} holds no tensors by name: save the model's state_dict")


def _fingerprint(tensors: Iterable[tuple[str, torch.Tensor]], description: Mapping[str, object]) -> str:
    """sha256 over the description and, by name, each tensor's shape and float32 bytes, whatever container held them."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        if name.endswith(_UNUSED):
            continue
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(json.dumps([name, list(values.shape)]).encode())
        digest.update(values.astype("<f4", copy=False).reshape(-1).data)
    return digest.hexdigest()


def _to_numpy(vectors: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = vectors.float().cpu().numpy()
    return array


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" …") or type(error).__name__
