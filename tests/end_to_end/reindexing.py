"""Collections that change from night to night, and what a search finds in them whatever way their index was made."""

import io
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apache_beam as beam
import numpy as np
import PIL.Image
import pytest
from apache_beam.pvalue import PCollection

from pipelines import build, reindex
from pipelines.running.graph import wiring
from transforms.generations import published, tables
from transforms.generations.manifest import Generation
from transforms.markers import StageMarker, TrainedIndex, TrainMarker
from transforms.runs.run import Run
from transforms.search.searcher import Searcher
from transforms.stages.barrier import FinishStage
from transforms.storage.store import Store

ENCODER = ("--encoder", "tests.encoders:TinyEncoder", "--encoder-threads", "1", "--no-progress")
QUERIES = np.random.default_rng(5).standard_normal((12, 16)).astype(np.float32)
K = 10


@dataclass
class Collection:
    """A folder of pictures, and a CSV whose rows name pictures of another folder; both change on disk.

    Attributes:
        folder: where.
        pictures: seeds of the pictures by name; a negative seed is a file that is no picture.
        rows: texts and seeds of pictures by primary key, in the order in which they are written.
    """

    folder: Path
    pictures: dict[str, int] = field(default_factory=dict)
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What a build of it takes, but for the root."""
        return (
            *("--images", str(self.folder / "pictures"), "--csv", str(self.folder / "rows.csv")),
            *("--image-column", "image", "--text-column", "text", "--key-column", "key", *ENCODER),
        )

    def write(self) -> None:
        """Brings the disk up to date; what did not change keeps its time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = {self.folder / "pictures" / f"{name}.png": seed for name, seed in self.pictures.items()}
        wanted |= {self.folder / "row-pictures" / f"{key}.png": seed for key, (_, seed) in self.rows.items()}
        for folder in ("pictures", "row-pictures"):
            (self.folder / folder).mkdir(exist_ok=True)
            for file in (self.folder / folder).iterdir():
                if file not in wanted:
                    file.unlink()
        for file, seed in wanted.items():
            self._write_file(file, picture(seed))
        lines = [f"{key},{text},row-pictures/{key}.png" for key, (text, _) in self.rows.items()]
        self._write_file(self.folder / "rows.csv", "\n".join(["key,text,image", *lines, ""]).encode())

    def _write_file(self, file: Path, content: bytes) -> None:
        if file.exists() and file.read_bytes() == content:
            return
        file.write_bytes(content)
        # The same content is the same version, so that a collection can be taken back to where it began.
        seconds = zlib.crc32(content)
        os.utime(file, (seconds, seconds))


def picture(seed: int) -> bytes:
    """Bytes of a small picture, or of none where the seed is negative."""
    if seed < 0:
        return b"no picture %d" % seed
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def collection(folder: Path, pictures: int = 100, rows: int = 40) -> Collection:
    """A collection to begin with, written."""
    made = Collection(
        folder,
        {f"p{number:03d}": number for number in range(pictures)},
        {f"k{number:03d}": (f"text {number}", 1000 + number) for number in range(rows)},
    )
    made.write()
    return made


def found(root: Path, queries: np.ndarray[tuple[int, int], np.dtype[np.float32]] = QUERIES) -> list[dict[str, float]]:
    """What every query finds: the score of each key, of all lists."""
    store = Store.at(str(root))
    searcher = Searcher.open(store)
    nlist = searcher.generation.trained.nlist
    return [
        {f"{hit.key} {hit.modality}": hit.score for hit in hits}
        for modality in ("image", "text")
        for hits in searcher.search(queries, K, nprobe=nlist, modality=modality)
    ]


def assert_same(one: Sequence[dict[str, float]], other: Sequence[dict[str, float]]) -> None:
    """Query for query the same keys, but where scores within 1e-3 change places at the end."""
    for mine, theirs in zip(one, other, strict=True):
        assert len(mine) == len(theirs)
        last = min([*mine.values(), *theirs.values()], default=0)
        for key in mine.keys() ^ theirs.keys():
            assert abs((mine | theirs)[key] - last) < 1e-3, key
        for key in mine.keys() & theirs.keys():
            assert abs(mine[key] - theirs[key]) < 1e-3, key


class _Adopt(beam.PTransform):  # type: ignore[type-arg]  # as its base writes it
    """Takes a trained index that is there for the one that would be trained."""

    trained: TrainedIndex

    def __init__(self, run: Run) -> None:
        self._run = run

    def expand(self, before: PCollection[StageMarker]) -> PCollection[StageMarker]:
        made: PCollection[StageMarker] = (
            before
            | "Adopt" >> beam.ParDo(_CommitTrained(self._run, self.trained))
            | "Done" >> FinishStage(self._run, "train")
        )
        return made


class _CommitTrained(beam.DoFn):
    def __init__(self, run: Run, trained: TrainedIndex) -> None:
        self._run, self._trained = run, trained

    def process(self, before: StageMarker) -> Iterator[int]:
        self._run.commit("train", 0, TrainMarker("given", self._trained))
        yield 0


def build_with_trained_of(base: Path, root: Path, arguments: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Builds a root from nothing, with the trained index of another root."""
    trained = generation_of(base).trained
    shutil.copytree(base / "trained", root / "trained")
    with patch.context() as local:
        local.setattr(wiring, "TrainIndex", type("Adopt", (_Adopt,), {"trained": trained}))
        assert build.main(["--root", str(root), *arguments]) == 0


def generation_of(root: Path) -> Generation:
    """The current generation."""
    current = published.current(Store.at(str(root)))
    assert current is not None
    return current


def deltas(root: Path) -> int:
    """How many deltas the current generation has."""
    return sum(not block.merged for block in tables.blocks_of(Store.at(str(root)), generation_of(root)))


def run(root: Path, *flags: str) -> int:
    """Runs a reindex in this process."""
    return reindex.main(["--root", str(root), "--no-progress", *flags])
