"""Training of lists against SuperKMeans, hierarchical and flat: CPU seconds, and codes scanned for the same coverage.

    python -m tests.benchmarks.training.against_superkmeans --superkmeans-python ENVIRONMENT/bin/python \\
        --vectors DIR --index-key IVF4096,Flat [--rounds 2] [--seed 0] [--cache DIR] --output FILE.json

`ENVIRONMENT` has numpy and `superkmeans` (`pip install superkmeans`). By turns, each a process of its own: `pixdex
train` on a new root; its tasks once more without start and runner, for CPU seconds stage by stage (stage_costs.py);
SuperKMeans on as many rows, drawn at random and in memory before its clock starts (superkmeans_child.py), with threads
that sleep while they wait, and with threads that do not.

*Coverage* is the share of the exact ten nearest of a query whose lists are probed, *codes* are the rows in the probed
lists, both over all vectors, each in the list of its nearest centroid. The ratios: codes that ours needs over what the
others need for the same coverage, by interpolation between numbers of probed lists.
"""

import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, own_builds, recall, report, vector_folder
from tests.benchmarks.instruments.arguments import parser_of
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import VectorFolder
from transforms.index.index_key import IndexKey
from transforms.index.training.passes import imbalance
from transforms.index.vector_transforms import behind_transforms

COVERAGES = (0.8, 0.9, 0.95, 0.98)
MODES = ("hierarchical", "flat")
WAITING = ("passive", "active")
"""How threads without work wait (`OMP_WAIT_POLICY`): asleep, as those of our commands, or burning CPU time."""

_PROBED = 512
"""Lists that are looked at for a curve, at the most."""


@dataclass(frozen=True)
class Lists:
    """What some centroids make of all vectors.

    Attributes:
        codes, coverage: float64 `(p,)`: with 1, 2, … p lists probed.
        imbalance: of all vectors.
    """

    codes: NDArray[np.float64]
    coverage: NDArray[np.float64]
    imbalance: float

    def codes_for(self, coverage: float) -> float | None:
        """Codes for so much coverage; None where no number of lists that was looked at gives it."""
        if self.coverage[-1] < coverage:
            return None
        return float(np.interp(coverage, self.coverage, self.codes))

    def figures(self) -> dict[str, Any]:
        few = {
            str(probed): [round(float(curve[probed - 1]), 4) for curve in (self.coverage, self.codes)]
            for probed in (1, 2, 4)
        }
        return {
            "codes_for_coverage": {str(share): self.codes_for(share) for share in COVERAGES},
            "coverage_and_codes_of_lists": few,
            "imbalance": round(self.imbalance, 4),
        }


def lists_of(
    centroids: NDArray[np.float32], folder: VectorFolder, exact: NDArray[np.int64], index: Any = None
) -> Lists:
    """Puts every vector into the list of its nearest centroid, behind the transforms of `index` if there is one.

    Cost: a product of every vector with every centroid.
    """

    def behind(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors if index is None else behind_transforms(index, vectors)

    flat = (faiss.IndexFlatIP if folder.metric == "ip" else faiss.IndexFlatL2)(centroids.shape[1])
    flat.add(np.ascontiguousarray(centroids))
    own = np.concatenate([flat.search(behind(block), 1)[1][:, 0] for block in folder.blocks()])
    sizes = np.bincount(own, minlength=len(centroids))
    ranked = flat.search(behind(folder.queries()), min(_PROBED, len(centroids)))[1]
    rank = np.full((len(ranked), len(centroids)), ranked.shape[1])
    np.put_along_axis(rank, ranked, np.arange(ranked.shape[1])[None], axis=1)
    ranks = np.take_along_axis(rank, own[exact], axis=1)
    found = np.bincount(ranks.reshape(-1), minlength=ranked.shape[1] + 1)[:-1]
    return Lists(np.cumsum(sizes[ranked], axis=1).mean(axis=0), np.cumsum(found) / ranks.size, imbalance(sizes))


class Peer:
    """SuperKMeans in one of its modes, in its own environment."""

    def __init__(self, mode: str, waiting: str, python: str, sample: Path, lists: int, metric: str) -> None:
        self.waiting, self.name = waiting, f"SuperKMeans {mode}, {waiting}"
        self._centroids = sample.with_name(f"superkmeans-{mode}-{waiting}.npy")
        child = str(Path(__file__).with_name("superkmeans_child.py"))
        self._command = [
            "env",
            f"OMP_WAIT_POLICY={waiting}",
            python,
            child,
            "--sample",
            str(sample),
            "--lists",
            str(lists),
            "--mode",
            mode,
        ]
        self._command += ["--metric-type", metric, "--output", str(self._centroids)]
        self.cpu_seconds: list[float] = []

    def run(self) -> None:
        found = measuring.run(self._command, self._centroids.with_suffix(".log")).last_json()
        self.cpu_seconds.append(round(found["cpu_seconds"], 2))
        say(f"{self.name}: {found}")

    @property
    def centroids(self) -> NDArray[np.float32]:
        return np.asarray(np.load(self._centroids), np.float32)


class Own:
    """`pixdex train` on a new root each time."""

    def __init__(self, folder: VectorFolder, key: str, root: Path, seed: int) -> None:
        self._folder, self._key, self._root, self._seed = folder, key, root, seed
        self.command: list[float] = []
        self.stages: list[dict[str, float]] = []

    def run(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        run = own_builds.go_on("train", self._folder, self._key, self._root, seed=self._seed)
        self.command.append(run.measured.cpu_seconds)
        child = [sys.executable, "-m", "tests.benchmarks.training.stage_costs", str(self._root)]
        self.stages.append(measuring.run(child, self._root.with_name("stages.log")).last_json())
        say(f"pixdex train: {self.command[-1]} CPU seconds; {self.stages[-1]}")

    @property
    def index(self) -> Any:
        return faiss.read_index(str(own_builds.trained_index(self._root)[0]))


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--superkmeans-python", required=True, help="of an environment with numpy and superkmeans")
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    machine = measuring.machine()
    folder = vector_folder.opened(options.vectors.absolute(), options.metric_type, cache)
    lists = IndexKey.parse(options.index_key).nlist
    exact = recall.exact_of(folder, cache)
    with tempfile.TemporaryDirectory(prefix="training-", dir=cache) as work:
        own = Own(folder, options.index_key, Path(work) / "root", options.seed)
        sample = Path(work) / "sample.npy"
        rows = min(max(40 * lists, 65_536), folder.rows)
        chosen = np.sort(np.random.default_rng(options.seed).choice(folder.rows, rows, replace=False))
        np.save(sample, folder.load(chosen))
        peers = [
            Peer(mode, waiting, options.superkmeans_python, sample, lists, folder.metric)
            for mode in MODES
            for waiting in WAITING
        ]
        for _ in range(options.rounds):
            own.run()
            for peer in peers:
                peer.run()
        index = own.index
        inner = faiss.extract_index_ivf(index)
        say("coverage of all")
        curves = {"pixdex": lists_of(inner.quantizer.reconstruct_n(0, inner.nlist), folder, exact, index)}
        curves |= {peer.name: lists_of(peer.centroids, folder, exact) for peer in peers if peer.waiting == WAITING[0]}
    stages = report.stage_medians(own.stages)
    cpu = {"pixdex": round(sum(stages.values()), 2)}
    cpu |= {peer.name: round(statistics.median(peer.cpu_seconds), 2) for peer in peers}
    found: dict[str, Any] = {
        "machine": machine,
        "vectors": {"rows": folder.rows, "dim": folder.dim, "metric": folder.metric, "sample": rows},
        "index_key": options.index_key,
        "cpu_seconds": cpu,
        "cpu_seconds_of_the_command": statistics.median(own.command),
        "cpu_seconds_of_stages": stages,
        "runs": {"pixdex": own.stages, **{peer.name: peer.cpu_seconds for peer in peers}},
        "lists": {name: curve.figures() for name, curve in curves.items()},
    }
    report.write(options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    """Prints what was found."""
    vectors, cpu = found["vectors"], found["cpu_seconds"]
    print(f"{vectors['rows']:,} x {vectors['dim']}, {found['index_key']}, trained on {vectors['sample']:,}")
    print(
        "stages, CPU seconds: " + ", ".join(f"{name} {took}" for name, took in found["cpu_seconds_of_stages"].items())
    )
    print(f"the command, with start, plan and runner: {found['cpu_seconds_of_the_command']} CPU seconds")
    own = found["lists"]["pixdex"]["codes_for_coverage"]
    rows = []
    for name, lists in found["lists"].items():
        codes = lists["codes_for_coverage"]
        ratios = [report.ratio(own[share], codes[share]) if own[share] and codes[share] else "—" for share in codes]
        cells = [round(codes[share], 1) if codes[share] else "—" for share in codes]
        rows.append([name, cpu[name], report.ratio(cpu["pixdex"], cpu[name]), lists["imbalance"], *cells, *ratios])
    for name in cpu.keys() - found["lists"].keys():
        print(f"{name}: {cpu[name]} CPU seconds, of which ours takes {report.ratio(cpu['pixdex'], cpu[name])}")
    headings = ["", "CPU seconds", "ours, of it", "imbalance", *(f"codes for {share}" for share in COVERAGES)]
    print(report.table([*headings, *(f"ours, of it, {share}" for share in COVERAGES)], rows))


if __name__ == "__main__":
    main()
