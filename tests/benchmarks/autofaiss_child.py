"""Builds an index with autofaiss, in autofaiss's own environment; started by build_against_autofaiss.py.

    /path/of/autofaiss/python autofaiss_child.py EMBEDDINGS_FOLDER INDEX_KEY METRIC CORES INDEX_FILE

Imports nothing of pixdex. autofaiss has no switch that leaves out the tuning of hyper-parameters and the metrics: both
happen in the function that it calls on the finished index. Here that function only writes the index, so that the
whole of this process is what autofaiss needs for the index itself: reading, training, adding, writing.
"""

import sys
from collections.abc import Callable

import faiss
from autofaiss.external import quantize  # type: ignore[import-not-found]  # it has an environment of its own


def _only_write(index_path: str, **_of_tuning: object) -> Callable[[object, str], dict[str, str]]:
    """Stands in for `get_optimize_index_fn`; the rest of its arguments are settings of tuning and metrics."""

    def write(index: object, suffix: str) -> dict[str, str]:
        with quantize.Timeit("Writing the index", indent=1):
            faiss.write_index(index, index_path + suffix)
        return {"index_path": index_path}

    return write


def main() -> None:
    folder, key, metric, cores, index_file = sys.argv[1:]
    quantize.get_optimize_index_fn = _only_write
    index, _ = quantize.build_index(
        embeddings=folder,
        index_path=index_file,
        index_infos_path=index_file + ".json",
        index_key=key,
        metric_type=metric,
        nb_cores=int(cores),
    )
    if index is None:
        raise SystemExit("autofaiss refused: its log says why")


if __name__ == "__main__":
    main()
