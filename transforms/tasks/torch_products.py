"""Products of assignment and encoding by torch, on a GPU where the machine that adds has one and is told to use it."""

import logging
import threading
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from transforms.encoders.device import choose_device, to_tensor
from transforms.errors import UsageError
from transforms.index.scores.elsewhere import Best
from transforms.index.scores.scorer import Rows, Scorer

_LOG = logging.getLogger(__name__)
_SCORES_AT_ONCE = 1 << 26
"""Scores of sub-vectors that are on the device at a time: 256 MiB."""


class TorchProducts:
    """Centroids stay on the device; vectors go there, and what was found comes back."""

    block_rows = 8192

    def __init__(self, device: torch.device) -> None:
        """Takes a CPU, or a CUDA device whose products of float32 are in float32 (see `torch_products`)."""
        self._device = device
        self._uploading = threading.Lock()
        self._held: tuple[Scorer, torch.Tensor, torch.Tensor | None] | None = None

    @torch.inference_mode()
    def best_lists(self, scorer: Scorer, vectors: NDArray[np.float32], looks: Iterable[tuple[Rows, int, int]]) -> Best:
        """As `scores.elsewhere.Products` says. Memory: the vectors, and the scores of one look."""
        centroids, bias = self._uploaded(scorer)
        rows_here = self._here(vectors)
        best = torch.full((len(vectors),), -torch.inf, device=self._device)
        second, lists = best.clone(), torch.zeros(len(vectors), dtype=torch.int64, device=self._device)
        for rows, start, stop in looks:
            places = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self._device)
            scores = rows_here[places] @ centroids[start:stop].T
            if bias is not None:
                scores -= bias[start:stop]
            top, place = scores.topk(min(2, stop - start), dim=1)
            before, first = best[places], top[:, 0]
            runner_up = torch.minimum(before, first)
            if top.shape[1] > 1:
                runner_up = torch.maximum(runner_up, top[:, 1])
            second[places] = torch.maximum(second[places], runner_up)
            lists[places] = torch.where(first > before, start + place[:, 0], lists[places])
            best[places] = torch.maximum(before, first)
        return Best(*(found.cpu().numpy() for found in (lists, best, second)))

    @torch.inference_mode()
    def best_entries(
        self, books: NDArray[np.float32], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `scores.elsewhere.Products` says. Memory: 256 MiB of the device."""
        numbers = np.empty((len(vectors), len(books)), np.int64)
        margins = np.empty((len(vectors), len(books)), np.float32)
        entries = self._here(books)
        halves = 0.5 * entries.square().sum(dim=2)
        at_once = max(1, _SCORES_AT_ONCE // halves.numel())
        for first in range(0, len(vectors), at_once):
            some = self._here(vectors[first : first + at_once])
            parts = some.reshape(len(some), len(books), -1).transpose(0, 1)
            scores = torch.bmm(parts, entries.transpose(1, 2)) - halves[:, None]
            top, place = scores.topk(2, dim=2)
            numbers[first : first + at_once] = place[:, :, 0].T.cpu().numpy()
            margins[first : first + at_once] = (top[:, :, 0] - top[:, :, 1]).T.cpu().numpy()
        return numbers, margins

    def _here(self, values: NDArray[np.float32]) -> torch.Tensor:
        return to_tensor(np.ascontiguousarray(values), self._device)

    def _uploaded(self, scorer: Scorer) -> tuple[torch.Tensor, torch.Tensor | None]:
        with self._uploading:
            if self._held is None or self._held[0] is not scorer:
                bias = None if scorer.bias is None else self._here(scorer.bias)
                self._held = scorer, self._here(scorer.centroids), bias
            return self._held[1:]


def torch_products(asked: str) -> TorchProducts:
    """Opens a device by name: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: this machine has no such device, or it does not compute in float32.
    """
    device = choose_device(asked)
    if device.type == "mps":
        raise UsageError("mps does not multiply in float32 throughout, which adding counts on: choose cpu or cuda")
    if torch.get_float32_matmul_precision() != "highest":
        raise UsageError(
            f"torch multiplies float32 with precision {torch.get_float32_matmul_precision()!r}, and adding counts on "
            "'highest': leave torch.set_float32_matmul_precision alone"
        )
    _LOG.info("adding on %s", device)
    return TorchProducts(device)
