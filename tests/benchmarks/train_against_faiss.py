"""Training against `faiss.Index.train` in memory, with the same factory string: seconds and recall.

    python -m tests.benchmarks.train_against_faiss --vectors DIR --index-key OPQ64_256,IVF4096,PQ64x8 [--tuned] \\
        [--rounds 3] [--cache DIR] [--reuse-peer] [--peer-limit SECONDS] --output FILE.json

Ours are the seconds of all stages between embedding and adding, as a whole `pixdex build` reports them: sampling and
reading included. Theirs is the call of `train` alone, on vectors in memory (faiss_peer.py): with faiss's settings and,
with --tuned, as somebody who knows faiss would set it. All indexes are filled with the same vectors and searched.
A peer that trains for longer than --peer-limit is stopped: its ratio is then a bound (≤), and its recall is left out.
"""

import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss

from tests.benchmarks.instruments import measuring, own_builds, recall, report, vector_folder
from tests.benchmarks.instruments.arguments import parser_of
from tests.benchmarks.instruments.measuring import Measured, say
from tests.benchmarks.instruments.own_builds import OwnRun
from tests.benchmarks.instruments.vector_folder import VectorFolder


class Peer:
    """faiss with one way of training; its index and figures are kept in the cache."""

    def __init__(
        self, name: str, folder: VectorFolder, key: str, cache: Path, *, reuse: bool, limit: float | None
    ) -> None:
        self.name, self._folder, self._key = name, folder, key
        self._stem = cache / f"{name}-{folder.digest}-{re.sub(r'[^A-Za-z0-9]', '_', key)}"
        self.index_file = self._stem.with_suffix(".index")
        self._figures = self._stem.with_suffix(".json")
        self.runs: list[Measured] = measuring.remembered(self._figures, self.index_file) if reuse else []
        self._from_cache = bool(self.runs)
        self._limit = limit

    def run(self) -> None:
        """Trains and fills an index, unless the cache had the figures."""
        if self._from_cache:
            return
        words = ["--vectors", str(self._folder.path), "--metric-type", self._folder.metric, "--index-key", self._key]
        words += ["--index", str(self.index_file), *(["--tuned"] if self.name == "faiss-tuned" else [])]
        words += [] if self._limit is None else ["--limit", str(self._limit)]
        child = [sys.executable, "-m", "tests.benchmarks.faiss_peer", "train", *words]
        self.runs.append(measuring.run(child, self._stem.with_suffix(".log")))
        say(f"{self.name} took {self.runs[-1].last_json()}")
        if not self.stopped:
            measuring.remember(self._figures, self.runs)

    @property
    def stopped(self) -> bool:
        """Whether a run was stopped at the limit: what is known then is that it takes longer."""
        return any(run.last_json().get("stopped", False) for run in self.runs)

    def seconds(self) -> float:
        return float(statistics.median(run.last_json()["train"] for run in self.runs))

    def figures(self) -> dict[str, Any]:
        return {
            "train_seconds": round(self.seconds(), 3),
            "stopped": self.stopped,
            "trained_on": self.runs[-1].last_json()["trained_on"],
            "peak_anonymous_bytes": max(run.peak_anonymous for run in self.runs),
            "runs_seconds": [round(run.last_json()["train"], 3) for run in self.runs],
            "from_cache": self._from_cache,
        }


def compare(folder: VectorFolder, own: OwnRun, peers: Sequence[Peer], cache: Path) -> dict[str, Any]:
    """Takes the recall of all indexes."""
    exact, queries = recall.exact_of(folder, cache), folder.queries()
    say("recall of all")
    index, positions = own_builds.opened(own.root, folder)
    ours = recall.measure(index, queries, exact, positions)
    found = {}
    for peer in (peer for peer in peers if not peer.stopped):
        filled = faiss.read_index(str(peer.index_file), faiss.IO_FLAG_MMAP)
        found[peer.name] = report.compare(ours, recall.measure(filled, queries, exact))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--tuned", action="store_true", help="against a tuned faiss too")
    parser.add_argument("--reuse-peer", action="store_true", help="take faiss's figures from the cache")
    parser.add_argument(
        "--peer-limit", type=float, metavar="SECONDS", help="stop a training of faiss that takes longer"
    )
    options = parser.parse_args(argv)
    cache = options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    folder = vector_folder.opened(options.vectors.absolute(), options.metric_type, cache)
    names = ["faiss", *(["faiss-tuned"] if options.tuned else [])]
    peers = [
        Peer(name, folder, options.index_key, cache, reuse=options.reuse_peer, limit=options.peer_limit)
        for name in names
    ]
    measuring.warm(folder.files)
    roots = Path(tempfile.mkdtemp(prefix="roots-", dir=cache))
    own: list[OwnRun] = []
    try:
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            own.append(own_builds.build(folder, options.index_key, roots / "root", seed=options.seed))
            say(f"pixdex trained in {own[-1].training_seconds:.1f} s: {own[-1].stages}")
            for peer in peers:
                peer.run()
        seconds = statistics.median(run.training_seconds for run in own)
        found: dict[str, Any] = {
            "machine": machine,
            "vectors": {"rows": folder.rows, "dim": folder.dim, "metric": folder.metric},
            "index_key": own_builds.same_key(options.index_key, own[-1]),
            "pixdex": {
                "train_seconds": seconds,
                "runs_seconds": [run.training_seconds for run in own],
                "stages": report.stage_medians([run.stages for run in own]),
                "peak_anonymous_bytes": max(run.measured.peak_anonymous for run in own),
            },
            "peers": {peer.name: peer.figures() for peer in peers},
            "ratio": {peer.name: report.ratio(seconds, peer.seconds()) for peer in peers},
            "recall": compare(folder, own[-1], peers, cache),
        }
    finally:
        shutil.rmtree(roots, ignore_errors=True)
    report.write(options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    print(f"{found['vectors']['rows']:,} x {found['vectors']['dim']}, {found['index_key']['asked']}")
    rows = [
        [
            f"{name}, stopped" if figures["stopped"] else name,
            figures["train_seconds"],
            f"≤ {found['ratio'][name]}" if figures["stopped"] else found["ratio"][name],
            f"{figures['trained_on']:,}",
        ]
        for name, figures in found["peers"].items()
    ]
    own = ["pixdex", found["pixdex"]["train_seconds"], "", ""]
    print(report.table(["training", "seconds", "pixdex takes, of it", "vectors trained on"], [own, *rows]))
    for name, rows_of_curve in found["recall"].items():
        print("\n" + report.compare_table(rows_of_curve, name))


if __name__ == "__main__":
    main()
