"""Writes a trained index below a name that is made of its bytes, with what assignment and merge need beside it."""

import hashlib
from pathlib import Path
from typing import Any

import faiss
import safetensors.numpy
from numpy.typing import NDArray

from transforms.index.faiss_file import describe_trained
from transforms.index.index_key import IndexKey
from transforms.index.trained import Training
from transforms.index.training.assemble import Assembled
from transforms.index.training.passes import Moved, imbalance
from transforms.markers import TrainedIndex
from transforms.record_json import encode
from transforms.records import Metric
from transforms.storage import layout
from transforms.storage.store import Store, sha256_of

_DIGITS = 6


def save(
    store: Store,
    assembled: Assembled,
    moved: Moved,
    key: IndexKey,
    metric: Metric,
    *,
    normalized: bool,
    held_out: int,
    seed: int,
) -> TrainedIndex:
    """Writes a trained index below `trained/<fingerprint>`; the same index always has the same name.

    Args:
        store: the root.
        assembled: the index.
        moved: what the last pass over the sample counted.
        key, metric, normalized, seed: what was asked for.
        held_out: rows that were held out.
    """
    index = assembled.index
    inner = faiss.extract_index_ivf(index)
    training = Training(
        key=str(key),
        metric=metric,
        dim=index.d,
        nlist=inner.nlist,
        code_size=inner.code_size,
        nprobe=inner.nprobe,
        seed=seed,
        sample_rows=int(moved.counts.sum()),
        held_out_rows=held_out,
        objective=round(moved.objective, _DIGITS),
        imbalance=round(imbalance(moved.counts), _DIGITS),
        normalized=normalized,
        held_out_residual=round(assembled.held_out_residual, _DIGITS),
        faiss=faiss.__version__,
        layout=describe_trained(index),
        assignment=assembled.audit,
    )
    with store.scratch() as scratch:
        files = _write(scratch, assembled, training)
        sums = [sha256_of(file) for file in files]
        fingerprint = hashlib.sha256("".join(sums).encode()).hexdigest()
        folder = layout.trained_folder(fingerprint)
        references = [
            store.upload_as(file, f"{folder}/{file.name}", f"sha256:{checksum}")
            for file, checksum in zip(files, sums, strict=True)
        ]
    return TrainedIndex(
        fingerprint=fingerprint,
        key=str(key),
        metric=metric,
        dim=index.d,
        nlist=inner.nlist,
        code_size=inner.code_size,
        nprobe=inner.nprobe,
        index=references[0],
        training=references[1],
        assignment=references[2] if assembled.assigner else None,
    )


def _write(folder: Path, assembled: Assembled, training: Training) -> list[Path]:
    """Writes the files in the order in which the fingerprint takes them."""
    files = [folder / "index.faiss", folder / "training.json"]
    faiss.write_index(assembled.index, str(files[0]))
    files[1].write_bytes(encode(training))
    if assembled.assigner:
        tensors: dict[str, NDArray[Any]] = {"parents": assembled.assigner.parents, "bounds": assembled.assigner.bounds}
        files.append(folder / "assignment.safetensors")
        safetensors.numpy.save_file(tensors, files[2])
    return files
