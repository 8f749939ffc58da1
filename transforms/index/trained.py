"""What `training.json` says about a trained index: how it was trained, and how its file is laid out."""

from dataclasses import dataclass

from transforms.index.faiss_file import TrainedLayout
from transforms.records import FORMAT_VERSION, Metric, TrainedIndex
from transforms.store import Store


@dataclass(frozen=True)
class Training:
    """A description of a training; no times and no hosts, so that the same training has the same bytes.

    Attributes:
        sample_rows: vectors it was trained on.
        imbalance: faiss's imbalance factor of the sample over the lists; 1 when all lists are alike.
        faiss: version of faiss that trained it.
        layout: where things stand in `index.faiss`, for the merge, which knows no faiss.
    """

    key: str
    metric: Metric
    dim: int
    nlist: int
    code_size: int
    nprobe: int
    seed: int
    sample_rows: int
    imbalance: float
    faiss: str
    layout: TrainedLayout
    format_version: int = FORMAT_VERSION


def read_training(store: Store, trained: TrainedIndex) -> Training:
    """Reads the description of a trained index."""
    return store.read_record(trained.training.path, Training)
