"""Fetches, decodes and preprocesses one picture; tells a picture that is at fault from a machine that is.

What is wrong with a picture, or with the place it lies at, is a `Failure` of that picture and rejects its item for
good. What is wrong with this machine says nothing about the picture: it stops the run, which can go on later.
"""

import errno
import time

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from transforms.encoders import Encoder
from transforms.errors import PixdexError
from transforms.pictures import decode
from transforms.pictures.budget import DecodeBudget
from transforms.records import EncoderSettings
from transforms.rejects import Failure
from transforms.storage import uris

RETRY_AFTER = (0.5, 2.0)
"""Seconds before a remote object is asked for again: more outlast longer outages, and wait longer for dead hosts."""

_BUDGET = DecodeBudget()
"""Memory of the pictures that all threads of this process decode."""

_MACHINE_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC})
_DISK_FAULTS = frozenset({errno.EIO, errno.ESTALE})
_PASSING_STATUS = frozenset({408, 425, 429})


def load_picture(
    uri: str, encoder: Encoder, settings: EncoderSettings, target: int | None
) -> tuple[NDArray[np.float32], tuple[int, int]] | Failure:
    """Fetches, decodes and preprocesses one picture.

    Args:
        uri: what to fetch.
        encoder, settings: how it is preprocessed.
        target: see `target_side`; large pictures are shrunk while they are decoded.

    Returns:
        What the encoder takes, and the upright (width, height) of the picture; or why there is none.

    Raises:
        PixdexError: this machine cannot fetch it now, for example because it has too many files open.
    """
    try:
        data = fetch(uri)
    except PixdexError:
        raise
    except Exception as error:  # noqa: BLE001 - each storage library raises its own kind
        return Failure.of("fetch", error)
    try:
        picture = decode.decode(
            data, pixel_limit=settings.pixel_limit, target=target, mode=settings.image_fit, budget=_BUDGET
        )
        return encoder.preprocess(decode.fit(picture, settings.image_fit)), picture.info["size"]
    except Exception as error:  # noqa: BLE001 - hostile files raise anything, a MemoryError for an absurd size too
        return Failure.of("decode", error)


def target_side(encoder: Encoder) -> int | None:
    """Returns the side in pixels of the square that an encoder sees, if it takes `(channels, height, width)`."""
    shape = encoder.preprocess(PIL.Image.new("RGB", (8, 8))).shape
    return max(shape[1:]) if len(shape) == 3 else None


def fetch(uri: str) -> bytes:
    """Returns the content of an object; one that is not local is asked for up to three times.

    Raises:
        PixdexError: this machine is at fault.
        Exception: the object is: it is missing, forbidden or too large, or its storage failed every time.
    """
    local = uri.startswith("file://")
    for pause in (*(() if local else RETRY_AFTER), None):
        try:
            return _read(uri)
        except Exception as error:
            if _machine_at_fault(error, local):
                raise PixdexError(
                    f"{uri} cannot be fetched on this machine ({Failure.of('fetch', error)}): mend the machine "
                    "or remove the object, then run the same command again to go on from here"
                ) from error
            if pause is None or not _may_pass(error):
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _read(uri: str) -> bytes:
    try:
        return uris.read(uri)
    except FileNotFoundError as error:
        # fsspec says this of everything that befalls an HTTP request, a busy server too; the cause says what it was.
        if uri.startswith(("http://", "https://")) and isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def _machine_at_fault(error: Exception, local: bool) -> bool:
    if isinstance(error, MemoryError):
        return True
    # s3fs reports every answer that it does not know as EIO: only of a local file does that mean the disk.
    return isinstance(error, OSError) and error.errno in (_MACHINE_FAULTS | _DISK_FAULTS if local else _MACHINE_FAULTS)


def _may_pass(error: Exception) -> bool:
    """Whether a remote object may be there at the next try."""
    status = getattr(error, "status", None) or getattr(error, "code", None)  # of aiohttp and urllib; of gcsfs
    if isinstance(status, int) and 400 <= status < 500:
        return status in _PASSING_STATUS
    # Not only OSError: a server that hangs up is an error of the client library's own kind.
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | ValueError | ImportError)
