"""Folders of models: one on this machine, or a copy of what Hugging Face's hub has under a name.

A model of the hub is copied into the hub's cache first and opened from there as any other folder: what cannot be had is
said here, once for all libraries, and offline a copy that is there is enough. Of several files of the same weights, one
is taken: safetensors before those that torch would unpickle.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from transforms.encoders.library_errors import one_line
from transforms.errors import UsageError

_NAME: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WORDS: Final = ("*.json", "*.txt", "*.model")  # configurations and tokenizers
_TOKENIZERS: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""The first that is there says how texts become tokens; the second file of byte pairs goes with it."""
_OTHER_RUNTIMES: Final = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")


def is_path(place: str) -> bool:
    """Tells whether this is the path of a folder, and no name of the hub: it begins with `/`, `~`, `./` or `../`.

    >>> [is_path(each) for each in ("/models/minilm", "./minilm", "~/minilm", "..", "intfloat/e5-small")]
    [True, True, True, True, False]
    """
    return re.match(r"[/~]|\.\.?(/|$)", place) is not None


def open_folder(place: str, spec: str, *, prefix: str, must_hold: str, weights: Sequence[str]) -> Path:
    """Returns the folder of a model: the one at a path, or a copy of what the hub has under a name.

    Args:
        place: a path, as `is_path` tells, or `ORGANISATION/NAME`.
        spec: of the encoder, for messages.
        prefix: what stands before a path in a spec, for messages.
        must_hold: a file without which it is no model of the library.
        weights: patterns of files of weights, of which the first that matches anything is fetched.

    Raises:
        UsageError: it is neither, not there, or no such model.
    """
    if not is_path(place) and _NAME.fullmatch(place) is None:
        raise UsageError(
            f"encoder {spec!r} names neither a model of Hugging Face's hub, ORGANISATION/NAME, nor a folder, whose "
            f"path begins with / or ./{_instead(place, prefix)}"
        )
    folder = Path(place) if is_path(place) else _fetched(place, prefix, weights)
    if not folder.is_dir():
        raise UsageError(
            f"encoder {spec!r}: {folder} {'is not a folder' if folder.exists() else 'does not exist'}: check the path"
        )
    if not (folder / must_hold).is_file():
        raise UsageError(f"encoder {spec!r}: {folder} has no {must_hold}: give the folder of a model that has it")
    return folder


def tokenizer_digests(folder: Path) -> list[tuple[str, str]]:
    """Returns names and sha256 of the files that say how texts become tokens; empty if there are none in the folder."""
    for pattern in _TOKENIZERS:
        if found := sorted(folder.glob(pattern)):
            found += sorted(folder.glob("merges.txt")) if pattern == "vocab.json" else []
            return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in found]
    return []


def _fetched(name: str, prefix: str, weights: Sequence[str]) -> Path:
    import huggingface_hub  # noqa: PLC0415 - imports an HTTP client
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - likewise

    disable_progress_bars()  # progress is the console's
    try:
        for pattern in weights:
            folder = Path(
                huggingface_hub.snapshot_download(
                    name, allow_patterns=[*_WORDS, pattern], ignore_patterns=list(_OTHER_RUNTIMES)
                )
            )
            if any(folder.rglob(pattern)):
                break
    except Exception as error:  # each network library raises its own kind
        raise UsageError(
            f"cannot fetch {name} from Hugging Face's hub: {one_line(error)}: check the name and the network, or copy "
            f"its folder here and write {prefix}./FOLDER{_instead(name, prefix)}"
        ) from error
    return folder


def _instead(place: str, prefix: str) -> str:
    return f"; the folder that is here is written {prefix}./{place}" if place and Path(place).is_dir() else ""
