"""A generation that is open for answering: its index, its encoder, and what may be read for it."""

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import PIL.Image

from transforms.errors import PixdexError
from transforms.generations.manifest import Generation
from transforms.queries.encode import QueryEncoder
from transforms.queries.root import modality_of
from transforms.records import Modality
from transforms.search.hits import told
from transforms.search.searcher import Searcher
from transforms.serving.limits import Limits
from transforms.serving.questions import About
from transforms.storage.outside import Outside
from transforms.storage.store import Store

_SCORES: Final = {"ip": "inner product", "l2": "squared distance", "l1": "L1 distance"}
_ASKED: Final[tuple[Modality, ...]] = ("text", "image")
_DRAWN: Final = 36
_SHOWN: Final = 12


@dataclass(frozen=True)
class How:
    """How a root is opened, as `Searcher.open` and `QueryEncoder` take it.

    Attributes:
        store: the root.
        encoder: what whoever runs the server calls its encoder; a class of somebody's own is imported only then.
        device: where queries are encoded.
        trust_uris: pictures are read wherever the root says that they are.
    """

    store: Store
    encoder: str | None = None
    device: str = "auto"
    trust_uris: bool = False

    def open(self, before: "Opened | None" = None) -> "Opened":
        """Opens the current generation, and asks it something, so that whoever asks next does not wait for what is
        done but once; the encoder of the one before is taken over where it is the same.

        Raises:
            UsageError, PixdexError: it cannot be opened, or not be searched.
        """
        searcher = Searcher.open(self.store, trust_uris=self.trust_uris)
        request = searcher.generation.request
        encoder = QueryEncoder(request, device=self.device, named=self.encoder)
        if before is not None and request.encoder == before.searcher.generation.request.encoder:
            encoder = before.encoder
        else:
            _warm(encoder)
        opened = Opened(searcher, encoder, Outside.of(request, trusted=self.trust_uris))
        opened.sample()
        return opened


@dataclass(frozen=True)
class Opened:
    """One generation. Threads may share it; its files are let go of when the last that answers from it is done."""

    searcher: Searcher
    encoder: QueryEncoder
    outside: Outside
    _drawing: threading.Lock = field(default_factory=threading.Lock)
    _drawn: list[dict[str, Any]] = field(default_factory=list)

    @property
    def generation(self) -> Generation:
        """What was published."""
        return self.searcher.generation

    @property
    def number(self) -> int:
        """Of the generation."""
        return self.generation.generation

    def has(self, row: int) -> bool:
        """Tells whether any number is the id of a row, and one that may be seen."""
        try:
            return len(self.searcher.known(np.array([row], np.int64))) > 0
        except PixdexError:
            return False

    def about(self, limits: Limits) -> About:
        """Returns what is searched."""
        totals, request = self.generation.totals, self.generation.request
        return About(
            generation=self.number,
            items=totals.embedded,
            vectors=totals.vectors,
            images=totals.images,
            texts=totals.texts,
            keywords=totals.keywords,
            encoder=request.encoder.spec if request.has_encoder else None,
            takes=[modality for modality in _ASKED if self.encoder.why_not(modality) is None],
            scores="cosine" if self.searcher.has_cosines else _SCORES[self.generation.trained.metric],
            upload_bytes=limits.upload_bytes,
            results=limits.results,
        )

    def sample(self) -> list[dict[str, Any]]:
        """Returns some results, of no query: those nearest to vectors of chance, the same for a generation.

        Raises:
            PixdexError: the root is damaged.
        """
        with self._drawing:
            if not self._drawn and self.generation.totals.vectors:
                rng = np.random.default_rng(self.number)
                vectors = rng.standard_normal((_DRAWN, self.generation.trained.dim)).astype(np.float32)
                modality = modality_of(self.searcher, None, is_vector=False)
                found = self.searcher.search(vectors, 3, modality=modality)
                every = {hit.id: hit for place in range(3) for hits in found for hit in hits[place : place + 1]}
                self._drawn.extend(told(list(every.values())[:_SHOWN]))
            return self._drawn


def _warm(encoder: QueryEncoder) -> None:
    """Has an encoder load what it loads but once."""
    if encoder.why_not("text") is None:
        encoder.texts(["a picture"])
    if encoder.why_not("image") is None:
        encoder.decoded_pictures([PIL.Image.new("RGB", (8, 8))])


def problem_of(error: BaseException) -> str:
    """Returns why a generation cannot be opened, on one line."""
    said = " ".join(str(error).split())
    return said if isinstance(error, PixdexError) else f"{type(error).__name__}: {said}"
