"""What `training.json` says about a trained index: how it was trained, and how its file is laid out."""

from dataclasses import dataclass

from transforms.index.faiss_file import TrainedLayout
from transforms.markers import TrainedIndex
from transforms.record_json import decode
from transforms.records import FORMAT_VERSION, Metric
from transforms.storage import whole_files
from transforms.storage.store import Store


@dataclass(frozen=True)
class AssignmentAudit:
    """How two-level assignment compares with flat, on rows that were not trained on.

    Attributes:
        probes: cells that a vector looks into; the fewest that passed.
        agreement: share of the rows that get the list that flat assignment gives them, 0 to 1.
        recall_flat, recall_two_level: share of the ten nearest rows in the lists that a search probes by default, 0 to
            1; that of two-level assignment at as many codes scanned as the flat one.
    """

    probes: int
    agreement: float
    recall_flat: float
    recall_two_level: float


@dataclass(frozen=True)
class Training:
    """A description of a training; no times and no hosts, so that the same training has the same bytes.

    Attributes:
        sample_rows: vectors it was trained on.
        held_out_rows: sampled vectors it was not trained on; 0 where there were too few to spare any.
        objective: of the lists over the sample: mean inner product with the centroid for `ip`, else mean squared
            distance to it; behind the transforms.
        imbalance: faiss's imbalance factor of the sample over the lists; 1 when all lists are alike.
        normalized: whether its vectors have length one; the queries of a search must then, too.
        held_out_residual: mean squared error of the held-out rows after coding, over their mean squared norm; behind
            the transforms. Without held-out rows, of rows that were trained on.
        faiss: version of faiss that trained it.
        layout: where things stand in `index.faiss`, for the merge, which knows no faiss.
        assignment: the audit of two-level assignment; None where few lists are assigned flat.
    """

    key: str
    metric: Metric
    dim: int
    nlist: int
    code_size: int
    nprobe: int
    seed: int
    sample_rows: int
    held_out_rows: int
    objective: float
    imbalance: float
    normalized: bool
    held_out_residual: float
    faiss: str
    layout: TrainedLayout
    assignment: AssignmentAudit | None = None
    format_version: int = FORMAT_VERSION


def read_training(store: Store, trained: TrainedIndex) -> Training:
    """Reads the description of a trained index.

    Raises:
        PixdexError: it is missing, or is another than the trained index speaks of.
    """
    path = trained.training.path
    return decode(whole_files.read(store, trained.training), Training, f"{store.url}/{path}")
