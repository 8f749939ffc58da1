"""SuperKMeans on a sample in memory, as a process of its own in an environment of its own (numpy and superkmeans).

    PYTHON superkmeans_child.py --sample FILE.npy --lists 4096 --mode flat|hierarchical --metric-type ip \\
        --output FILE.npy

Started by against_superkmeans.py. With the tool's own settings, but for flat k-means, which trains on all of the sample
(its default is 30 % of it). The last line on stdout is one JSON object with the seconds of `train` alone.
"""

import argparse
import json
import resource
import time

import numpy as np
from superkmeans import SuperKMeans  # type: ignore[import-not-found,unused-ignore]  # in that environment


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", required=True)
    parser.add_argument("--lists", type=int, required=True)
    parser.add_argument("--mode", choices=("flat", "hierarchical"), required=True)
    parser.add_argument("--metric-type", choices=("ip", "l2"), required=True)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--output", required=True)
    own = parser.parse_args()
    sample = np.load(own.sample)
    sampled = {"sampling_fraction": 1.0} if own.mode == "flat" else {}
    means = SuperKMeans(
        n_clusters=own.lists,
        dimensionality=sample.shape[1],
        hierarchical=own.mode == "hierarchical",
        angular=own.metric_type == "ip",
        n_threads=own.threads,
        **sampled,
    )
    before, started = cpu_seconds(), time.monotonic()
    centroids = means.train(sample)
    took = {"cpu_seconds": cpu_seconds() - before, "seconds": time.monotonic() - started}
    np.save(own.output, centroids)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
