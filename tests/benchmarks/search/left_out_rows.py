"""Do rows of a root, each left out of its own results, tell the recall of queries that are not in it?

    python -m tests.benchmarks.search.left_out_rows --data FOLDER [--index-key IVF256,Flat] [--metric-type ip]

FOLDER has `base.npy` and `query.npy`, real embeddings of the same kind. Builds a root of the first, and evaluates it by
rows of its own and by the second, at the same numbers of lists. A minute on two cores.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit

NPROBES = (1, 2, 4, 8, 16, 32)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--index-key", default="IVF256,Flat")
    parser.add_argument("--metric-type", choices=("ip", "l2"), default="ip")
    parser.add_argument("--output", type=Path)
    own = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="left-out-") as folder:
        work, pixdex = Path(folder), [sys.executable, "-m", "pipelines"]
        for name in ("base", "query"):
            vectors = np.load(own.data / f"{name}.npy").astype(np.float32)
            np.save(work / f"{name}.npy", unit(vectors) if own.metric_type == "ip" else vectors)
        words = ["--root", work / "root", "--vectors", work / "base.npy", "--index-key", own.index_key, "--no-progress"]
        if own.metric_type == "l2":
            words += ["--metric-type", "l2", "--no-normalize"]
        say("build")
        measuring.run([*pixdex, "build", *map(str, words)], work / "build.log")
        asked = [word for nprobe in NPROBES for word in ("--nprobe", str(nprobe))]
        curves = {}
        for name, flags in {"rows": [], "queries": ["--queries", work / "query.npy"]}.items():
            say(f"evaluate by {name}")
            words = ["--root", work / "root", "--work", work / "work", *flags, *asked, "--no-progress"]
            run = measuring.run([*pixdex, "evaluate", *map(str, words)], work / "evaluate.log")
            curves[name] = json.loads(run.output.splitlines()[-1])["curve"]
    result = {"index_key": own.index_key, "machine": measuring.machine(), **curves}
    report.write(own.output, result)
    cells = [
        [rows["nprobe"], rows["recall"], rows["ci95"], queries["recall"], queries["ci95"]]
        for rows, queries in zip(curves["rows"], curves["queries"], strict=True)
    ]
    print(report.table(["nprobe", "rows left out", "95 %", "queries", "95 %"], cells))


if __name__ == "__main__":
    main()
