"""A whole build from ready embeddings against autofaiss 2.18: seconds, memory, and recall at equal codes scanned.

    python -m tests.benchmarks.build_against_autofaiss --vectors DIR --index-key OPQ64_256,IVF4096,PQ64x8 \\
        [--autofaiss-python PATH] [--rounds 3] [--cache DIR] [--reuse-peer] --output FILE.json

DIR holds base-*.npy or base.npy, and query.npy (clustered_vectors.py makes them; integers are converted first).
Ours is the whole command `python -m pipelines.build`, theirs `autofaiss.build_index` on the same files with the same
key and cores, both from the start of the interpreter to its exit, in turn. autofaiss runs in an environment of its own,
with the faiss version that it works with; without --autofaiss-python one is made below --cache. Its tuning and metrics
are left out (autofaiss_child.py says how). Recall of both is taken by the same faiss against exact search over the same
vectors.

--reuse-peer takes autofaiss's figures from the cache, where every run leaves them; without them it runs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss

from tests.benchmarks.instruments import measuring, own_builds, recall, report, vector_folder
from tests.benchmarks.instruments.arguments import parser_of
from tests.benchmarks.instruments.measuring import Measured, say
from tests.benchmarks.instruments.own_builds import OwnRun
from tests.benchmarks.instruments.vector_folder import VectorFolder

_REQUIREMENTS = ("autofaiss==2.18.0", "faiss-cpu==1.13.2", "numpy<2", "pyarrow<24")
_PHASE = re.compile(r'>>> Finished "(?:-> )?(.*?)(?: \d.*)?" in ([\d.]+) secs')


class Peer:
    """autofaiss on one folder with one key; its index and figures are kept in the cache."""

    def __init__(self, python: Path, folder: VectorFolder, key: str, cache: Path) -> None:
        self._python, self._folder, self._key = python, folder, key
        self._stem = cache / f"autofaiss-{folder.digest}-{re.sub(r'[^A-Za-z0-9]', '_', key)}"
        self.index_file = self._stem.with_suffix(".index")
        self.figures = self._stem.with_suffix(".json")

    def run(self) -> Measured:
        """Builds the index once."""
        child = Path(__file__).with_name("autofaiss_child.py")
        with tempfile.TemporaryDirectory(dir=self._stem.parent) as links:
            files = vector_folder.base_only(self._folder, Path(links) / "base")
            words = [str(files), self._key, self._folder.metric, str(cores()), str(self.index_file)]
            return measuring.run([str(self._python), "-P", str(child), *words], self._stem.with_suffix(".log"))

    def phases(self) -> dict[str, float]:
        """Returns the seconds that autofaiss reports, phase by phase, of the last run."""
        log = self._stem.with_suffix(".log").read_text(errors="replace")
        return {name: round(float(seconds), 3) for name, seconds in _PHASE.findall(log)}


def cores() -> int:
    return len(os.sched_getaffinity(0))


def environment(cache: Path) -> Path:
    """Makes autofaiss's environment, once; returns its interpreter."""
    folder = cache / "autofaiss-venv"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        say(f"making {folder} with {', '.join(_REQUIREMENTS)}")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *_REQUIREMENTS], check=True, stdout=sys.stderr)
        ready.touch()
    return python


def alternate(
    folder: VectorFolder, key: str, peer: Peer, roots: Path, rounds: int, *, reuse_peer: bool, seed: int
) -> tuple[list[OwnRun], list[Measured]]:
    """Runs both in turn, ours first; the root of the last round stays."""
    theirs = measuring.remembered(peer.figures, peer.index_file) if reuse_peer else []
    run_peer = not theirs
    own: list[OwnRun] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: pixdex")
        own.append(own_builds.build(folder, key, roots / "root", seed=seed))
        say(f"pixdex took {own[-1].measured.seconds:.1f} s: {own[-1].stages}")
        if run_peer:
            say(f"round {number + 1} of {rounds}: autofaiss")
            theirs.append(peer.run())
            say(f"autofaiss took {theirs[-1].seconds:.1f} s: {peer.phases()}")
            measuring.remember(peer.figures, theirs)
    return own, theirs


def compare(folder: VectorFolder, own: OwnRun, peer: Peer, cache: Path) -> dict[str, Any]:
    """Takes the recall of both indexes."""
    exact, queries = recall.exact_of(folder, cache), folder.queries()
    say("recall of both")
    index, positions = own_builds.opened(own.root, folder)
    ours = recall.measure(index, queries, exact, positions)
    theirs = recall.measure(faiss.read_index(str(peer.index_file), faiss.IO_FLAG_MMAP), queries, exact)
    return {
        "compared": report.compare(ours, theirs),
        "pixdex": report.curve_json(ours),
        "autofaiss": report.curve_json(theirs),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--autofaiss-python", type=Path, help="interpreter that has autofaiss (default: make one)")
    parser.add_argument("--reuse-peer", action="store_true", help="take autofaiss's figures from the cache")
    own_options = parser.parse_args(argv)
    key, cache = own_options.index_key, own_options.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    machine = measuring.machine()
    folder = vector_folder.opened(own_options.vectors.absolute(), own_options.metric_type, cache)
    peer = Peer(own_options.autofaiss_python or environment(cache), folder, key, cache)
    measuring.warm(folder.files)
    roots = Path(tempfile.mkdtemp(prefix="roots-", dir=cache))
    try:
        own, theirs = alternate(
            folder, key, peer, roots, own_options.rounds, reuse_peer=own_options.reuse_peer, seed=own_options.seed
        )
        found: dict[str, Any] = {
            "machine": machine,
            "vectors": {"rows": folder.rows, "dim": folder.dim, "metric": folder.metric},
            "index_key": own_builds.same_key(key, own[-1]),
            "pixdex": {
                **report.cost([run.measured for run in own]),
                "stages": report.stage_medians([run.stages for run in own]),
            },
            "autofaiss": {**report.cost(theirs), "phases": peer.phases(), "from_cache": own_options.reuse_peer},
            "recall": compare(folder, own[-1], peer, cache),
        }
    finally:
        shutil.rmtree(roots, ignore_errors=True)
    found["times_faster"] = report.ratio(found["autofaiss"]["seconds"], found["pixdex"]["seconds"])
    report.write(own_options.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    sides = [(name, found[name]) for name in ("pixdex", "autofaiss")]
    print(f"{found['vectors']['rows']:,} x {found['vectors']['dim']}, {found['index_key']['asked']}")
    print(
        report.table(
            ["whole build", "seconds", "CPU seconds", "peak anonymous MB"],
            [[name, side["seconds"], side["cpu_seconds"], side["peak_anonymous_bytes"] / 1e6] for name, side in sides],
        )
    )
    print(f"pixdex is {found['times_faster']:.2f} times faster\n")
    for name, parts in (("pixdex", found["pixdex"]["stages"]), ("autofaiss", found["autofaiss"]["phases"])):
        print(f"{name}: " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in parts.items()))
    print("\n" + report.compare_table(found["recall"]["compared"], "autofaiss"))


if __name__ == "__main__":
    main()
