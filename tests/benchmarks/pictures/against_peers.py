"""Embeds the same JPEG files with pixdex, with `clip-retrieval inference` and with Daft: whole commands, by turns.

    python -m tests.benchmarks.pictures.against_peers --encoder demo|ViT-B-32 --clip-retrieval-python PATH
        [--daft-python PATH] [--pictures N] [--size 1600x1200] [--rounds 2] [--output FILE.json]

The peers have environments of their own: `pip install clip-retrieval open_clip_torch "setuptools<81"`, and
`pip install daft open_clip_torch torch torchvision`. All have the weights of one file: of the shipped encoder, or
random ones of `ViT-B-32`. With the first and with pictures of 1600 x 1200 decoding dominates, with the second and
500 x 375 the model. Seconds, CPU seconds and anonymous memory are of whole commands, their imports and listing in them;
`a second` leaves out what each takes for 64 pictures, which is nearly all start. The cosine is the least between our
embedding of a picture and clip-retrieval's, both with the preprocessing that they have by default.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import Measured, say
from tests.benchmarks.instruments.vector_folder import unit
from tests.benchmarks.pictures.embed_rate import draw, spec_of
from transforms.encoders.demo_encoder import DEMO_FOLDER, DEMO_MODEL

SIZES = {"demo": "1600x1200", "ViT-B-32": "500x375"}
PICTURES = {"demo": 3000, "ViT-B-32": 384}
SIDES = {"demo": 64, "ViT-B-32": 224}
FEW = 64
"""Pictures of the run that is all start."""

Run = Callable[[Path, Path], Measured]


def ours(spec: str) -> Run:
    """The embed job, into a new root."""

    def run(pictures: Path, output: Path) -> Measured:
        words = ["--root", str(output), "--images", str(pictures), "--encoder", spec, "--no-progress"]
        return measuring.run([sys.executable, "-m", "pipelines", "embed", *words], output.with_suffix(".log"))

    return run


def peer(python: Path, child: str, model: Sequence[str]) -> Run:
    """A child of this folder, by its own interpreter."""
    file = Path(__file__).with_name(child)

    def run(pictures: Path, output: Path) -> Measured:
        words = [str(pictures), *model, str(output)]
        return measuring.run([str(python), "-P", str(file), *words], output.with_suffix(".log"))

    return run


def our_vectors(root: Path) -> dict[str, NDArray[np.float32]]:
    """Unit vectors by the name of the picture's file."""
    found: dict[str, NDArray[np.float32]] = {}
    for file in root.glob("embeddings/*/*.parquet"):
        table = pq.read_table(file, columns=["uri", "embedding"])
        vectors = np.stack(table["embedding"].to_numpy())
        found |= {Path(uri).name: vector for uri, vector in zip(table["uri"].to_pylist(), unit(vectors), strict=True)}
    return found


def their_vectors(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The same of what clip-retrieval wrote."""
    found: dict[str, NDArray[np.float32]] = {}
    for file in sorted((folder / "img_emb").glob("*.npy")):
        metadata = pq.read_table(
            folder / "metadata" / file.name.replace("img_emb", "metadata").replace("npy", "parquet")
        )
        names = [Path(path).name for path in metadata["image_path"].to_pylist()]
        found |= dict(zip(names, unit(np.load(file).astype(np.float32)), strict=True))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", choices=PICTURES, default="demo")
    parser.add_argument("--clip-retrieval-python", type=Path)
    parser.add_argument("--daft-python", type=Path)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--size")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    count, size, side = own.pictures or PICTURES[own.encoder], own.size or SIZES[own.encoder], SIDES[own.encoder]
    with tempfile.TemporaryDirectory(prefix="against-peers-") as temporary:
        work = Path(temporary)
        spec, config = spec_of(own.encoder, work), "-"
        model, weights = own.encoder, str(work / "weights.safetensors")
        if own.encoder == "demo":
            model, weights = DEMO_MODEL, str(DEMO_FOLDER / "weights.safetensors")
            config = str(DEMO_FOLDER / f"{DEMO_MODEL}.json")
        runs: dict[str, Run] = {"pixdex": ours(spec)}
        words = [model, weights, config]
        if own.clip_retrieval_python:
            cores = str(os.cpu_count() or 1)
            runs["clip-retrieval"] = peer(own.clip_retrieval_python, "clip_retrieval_child.py", [*words, cores])
        if own.daft_python:
            runs["daft"] = peer(own.daft_python, "daft_child.py", [*words, str(side)])
        say(f"drawing {count:,} pictures of {size}")
        files = draw(work / "pictures", size, count)
        (work / "few").mkdir()
        for file in files[:FEW]:
            os.link(file, work / "few" / file.name)
        measured: dict[str, list[Measured]] = {name: [] for name in runs}
        starts: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(own.rounds):
            for name, run in runs.items():
                shutil.rmtree(work / name, ignore_errors=True)
                starts[name].append(run(work / "few", work / name).seconds)
                shutil.rmtree(work / name, ignore_errors=True)
                measured[name].append(run(work / "pictures", work / name))
                say(f"{name}: {measured[name][-1].seconds:.1f} s, of which {starts[name][-1]:.1f} s start")
        cosine = None
        if "clip-retrieval" in runs:
            here, there = our_vectors(work / "pixdex"), their_vectors(work / "clip-retrieval")
            cosine = float(min(here[name] @ there[name] for name in there))
            assert here.keys() == there.keys()
    found = {
        name: report.cost(of) | {"a_second": (count - FEW) / (statistics.median(o.seconds for o in of) - start)}
        for name, of in measured.items()
        for start in [statistics.median(starts[name])]
    }
    report.write(
        own.output,
        {
            "machine": measuring.machine(),
            "encoder": own.encoder,
            "size": size,
            "pictures": count,
            "cosine": cosine,
            **found,
        },
    )
    headings = ["", "seconds", "CPU seconds", "memory", "pictures a second", "of pixdex"]
    rows = [
        [
            name,
            f"{of['seconds']:.1f}",
            f"{of['cpu_seconds']:.1f}",
            f"{of['peak_anonymous_bytes'] >> 20} MiB",
            f"{of['a_second']:.1f}",
            report.ratio(of["a_second"], found["pixdex"]["a_second"]),
        ]
        for name, of in found.items()
    ]
    print(f"{own.encoder}, {count:,} pictures of {size}; least cosine to clip-retrieval: {json.dumps(cosine)}")
    print(report.table(headings, rows))


if __name__ == "__main__":
    main()
