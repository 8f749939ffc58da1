"""Weights of torch models: a checkpoint is checked before a library reads it, and loaded tensors get a fingerprint."""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open

from transforms.encoders.library_errors import one_line
from transforms.errors import UsageError

_TORCH_ENDINGS: Final = (".pt", ".pth", ".bin", ".ckpt")
_RESIZED: Final = "resized by torch, uint8, antialias"
_UNUSED: Final = "num_batches_tracked"  # counted in training only: the vectors do not depend on it


def check_checkpoint(path: Path) -> None:
    """Refuses a file that a library would fail on obscurely or read with an unsafe loader; maps it and reads no tensor.

    Raises UsageError when the file is missing, has another format, is cut off or holds more than tensors.
    """
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
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"checkpoint {path} cannot be read: {one_line(error)}: fetch it again, or save its tensors as .safetensors"
        ) from error
    if not list(names):
        raise UsageError(f"checkpoint {path} holds no tensors by name: save the model's state_dict")


def tensors_of(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file that `check_checkpoint` found whole, one at a time, by name."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                yield name, file.get_tensor(name)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        yield from state.get("state_dict", state).items()


def resized_fingerprint(of_before: str) -> str:
    """Returns the fingerprint of an encoder whose pictures `resizing` resizes, made of the one with Pillow."""
    return hashlib.sha256(f"{of_before} {_RESIZED}".encode()).hexdigest()


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]], description: Mapping[str, object]) -> str:
    """sha256 over the description and, by name, each tensor's shape and float32 bytes, whatever container held them.

    Cost: a second for every 1.2 GB of float32.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        if name.endswith(_UNUSED):
            continue
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(json.dumps([name, list(values.shape)]).encode())
        digest.update(values.astype("<f4", copy=False).reshape(-1).data)
    return digest.hexdigest()
