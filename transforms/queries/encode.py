"""Encodes queries as a root was encoded: its encoder is opened once, and only where a text or a picture is asked."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from transforms.encoders import trusted
from transforms.errors import PixdexError, UsageError
from transforms.records import Modality, Request
from transforms.rejects import Failure, normalised_message
from transforms.storage import addresses, uris

if TYPE_CHECKING:
    import PIL.Image

    from transforms.encoders import Encoder
    from transforms.pictures.guard import How

BATCH: Final = 64
"""Queries that are encoded at once."""

_NO_TEXTS: Final = "no texts, only pictures: search with --image FILE"
_NO_PICTURES: Final = "no pictures, only texts: search with a text"


class QueryEncoder:
    """Makes vectors of texts and pictures. Threads may share it; they take turns."""

    def __init__(self, request: Request, *, device: str = "auto", named: str | None = None) -> None:
        """Opens nothing yet.

        Args:
            request: what the root was built from.
            device: auto, cpu, cuda, cuda:N or mps.
            named: the encoder that whoever asks has named; a class of somebody's own is opened only then, or where
                PIXDEX_TRUSTED_ENCODERS has it.
        """
        self._is_ready = not request.has_encoder
        self._settings = replace(request.encoder, device=device)
        self._named = named
        self._lock = threading.Lock()
        self._encoder: Encoder | None = None

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of texts, float32 `(n, d)`.

        Raises:
            UsageError: the root has no encoder, it takes no texts, or a text is empty or not readable.
            PixdexError: the encoder failed, or is another one than the root was made with.
        """
        for text in texts:
            _check_text(text)
        self._check_takes("text", _NO_TEXTS)
        vectors = [np.empty((0, self._settings.dim), np.float32)]
        with self._opened() as encoder:
            starts = range(0, len(texts), BATCH)
            vectors += [encoder.encode_texts(texts[start : start + BATCH]) for start in starts]
        return np.concatenate(vectors)

    def pictures(self, locations: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors of pictures at paths or URLs, float32 `(n, d)`, fitted as those of the root were.

        Raises:
            UsageError: the root has no encoder, it takes no pictures, or one cannot be read.
            PixdexError: the encoder failed, or is another one than the root was made with.
        """
        self._check_takes("image", _NO_PICTURES)
        _check_there(locations)
        vectors, failures = self.each_picture(locations)
        for place, failure in failures.items():
            raise UsageError(
                f"--image {locations[place]} is not a readable picture ({failure.type}): {failure.message}"
            )
        return vectors

    def each_picture(self, locations: Sequence[str]) -> "tuple[NDArray[np.float32], dict[int, Failure]]":
        """Returns the vectors of the pictures that can be read, float32 `(n, d)`, and by its place why another cannot.

        Raises:
            UsageError: the root has no encoder, or it takes no pictures.
            PixdexError: the encoder failed, or is another one than the root was made with.
        """
        self._check_takes("image", _NO_PICTURES)
        from transforms.tasks.embed.limits import USUAL  # noqa: PLC0415 - as the one below
        from transforms.tasks.embed.picture_loader import PictureLoader  # noqa: PLC0415 - reads pictures

        named = [_absolute(location) for location in locations]
        limits = replace(USUAL, named=addresses.private_hosts(named))  # who names a private address means it
        vectors = [np.empty((0, self._settings.dim), np.float32)]
        failures: dict[int, Failure] = {}
        with self._opened() as encoder, PictureLoader(encoder, self._settings, limits) as loader:
            for start, loaded in loader.batches(named, BATCH):
                pixels = [picture[0] for picture in loaded if not isinstance(picture, Failure)]
                failures |= {
                    place: picture for place, picture in enumerate(loaded, start) if isinstance(picture, Failure)
                }
                if pixels:
                    vectors.append(encoder.encode_images(np.stack(pixels)))
        return np.concatenate(vectors), failures

    def why_not(self, modality: Modality) -> str | None:
        """Returns why texts ("text") or pictures ("image") cannot be asked with, or None: they can. Opens nothing."""
        try:
            self._check_takes(modality, _NO_TEXTS if modality == "text" else _NO_PICTURES)
        except UsageError as error:
            return str(error)
        return None

    def how(self, seconds: float) -> "How":
        """Returns how the file of a picture is decoded, in a process of its own, for `decoded_pictures`.

        Raises:
            UsageError, PixdexError: as `each_picture`.
        """
        self._check_takes("image", _NO_PICTURES)
        from transforms.pictures.guard import How  # noqa: PLC0415 - reads pictures
        from transforms.tasks.embed.load_picture import target_side  # noqa: PLC0415 - likewise

        with self._opened() as encoder:
            return How(self._settings.pixel_limit, target_side(encoder), self._settings.image_fit, seconds)

    def decoded_pictures(self, pictures: "Sequence[PIL.Image.Image]") -> NDArray[np.float32]:
        """Returns the vectors of pictures that were decoded as `how` says, float32 `(n, d)`.

        Raises:
            UsageError, PixdexError: as `each_picture`.
        """
        self._check_takes("image", _NO_PICTURES)
        with self._opened() as encoder:
            return encoder.encode_images(np.stack([encoder.preprocess(picture) for picture in pictures]))

    def _check_takes(self, modality: str, but: str) -> None:
        if self._is_ready:
            raise UsageError(
                "this index holds ready embeddings and knows no encoder: encode the query as they were made, and "
                "search with --vector FILE.npy; or name their encoder when you build it, with --encoder"
            )
        trusted.check(self._settings.spec, self._named)
        if modality not in self._settings.modalities:
            raise UsageError(f"encoder {self._settings.spec} of this index takes {but}")

    @contextmanager
    def _opened(self) -> Iterator["Encoder"]:
        """The encoder, for one thread at a time: only its `preprocess` is for several."""
        from transforms.tasks.embed.open_encoder import open_encoder  # noqa: PLC0415 - imports torch

        with self._lock:
            try:
                if self._encoder is None:
                    self._encoder = open_encoder(self._settings).encoder
                yield self._encoder
            except PixdexError:
                raise
            except RuntimeError as error:  # torch: out of memory, a broken device
                raise PixdexError(
                    f"encoder {self._settings.spec} failed on the query: {normalised_message(error)}"
                ) from error


def _check_text(text: str) -> None:
    if not text.strip():
        raise UsageError("the query is empty: say what to look for")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the query {text!r} holds bytes that are no UTF-8: write it in UTF-8") from error


def _check_there(locations: Sequence[str]) -> None:
    """Checks that files of this machine are there: an encoder may take long to open."""
    for location in locations:
        uri = _absolute(location)
        if uri.startswith("file://"):
            try:
                uris.locate(uri)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise UsageError(f"--image: there is no file {location}") from error
            except Exception:  # noqa: BLE001 - reading it tells
                continue


def _absolute(location: str) -> str:
    try:
        return uris.absolute(location)
    except FileNotFoundError as error:
        raise UsageError(f"--image {location} is relative to a working directory that is gone") from error
