"""Makes clustered synthetic vectors, like picture embeddings: unequal clusters in a low-dimensional latent space.

    python tests/benchmarks/clustered_vectors.py --rows 1000000 --dim 512 --output DIR [--order clustered]

Writes DIR/base-00000.npy … (float16, at most 65,536 rows each) and DIR/query.npy (1,000 rows of the same distribution).
A latent vector of 64 components is a cluster's centre plus noise; it is rotated into `dim` components, a little noise
is added, and the length is made 1. The same arguments make the same files. About 10 seconds for a million rows of 512.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LATENT = 64
CLUSTERS = 5_000
ROWS_PER_FILE = 65_536
QUERIES = 1_000


def batches(rows: int, dim: int, seed: int, order: str = "shuffled", draw: int = 0) -> Iterator[NDArray[np.float16]]:
    """Yields the vectors, float16 `(≤ 65,536, dim)`; `clustered` puts cluster after cluster.

    Another `draw` of the same seed has other vectors of the same distribution.
    """
    shape = np.random.default_rng(seed)
    centres = shape.standard_normal((CLUSTERS, LATENT)).astype(np.float32)
    spread = shape.uniform(0.3, 0.7, CLUSTERS).astype(np.float32)
    share = shape.pareto(1.5, CLUSTERS) + 0.2
    rotation = shape.standard_normal((LATENT, dim)).astype(np.float32) / np.sqrt(LATENT)
    member = np.random.default_rng((seed, draw)).choice(CLUSTERS, rows, p=share / share.sum())
    if order == "clustered":
        member.sort()
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        noise = np.random.default_rng((seed, draw, number))
        cluster = member[start : start + ROWS_PER_FILE]
        latent = centres[cluster] + spread[cluster, None] * noise.standard_normal((len(cluster), LATENT), np.float32)
        vectors = latent @ rotation + 0.15 * noise.standard_normal((len(cluster), dim), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield vectors.astype(np.float16)


def write(folder: Path, rows: int, dim: int, seed: int = 0, order: str = "shuffled") -> None:
    """Writes base files, and queries from another draw."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "query.npy", np.concatenate(list(batches(QUERIES, dim, seed, draw=1))))
    for number, vectors in enumerate(batches(rows, dim, seed, order)):
        np.save(folder / f"base-{number:05d}.npy", vectors)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--order", choices=("shuffled", "clustered"), default="shuffled")
    parser.add_argument("--output", type=Path, required=True)
    own = parser.parse_args(argv)
    write(own.output, own.rows, own.dim, own.seed, own.order)


if __name__ == "__main__":
    main()
