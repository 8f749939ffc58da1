"""How much nonsense finds, and what true queries lose, with `--min-score auto`?

    python -m tests.benchmarks.search.null_results [--sizes 500,5000,20000] [--emoji FOLDER] [--vectors FOLDER]
        [--cache DIR] --output FILE.json

Draws pictures of the demo, encodes them with their captions by the demo encoder, and makes roots of so many of them.
Asked are texts that mean nothing here, of several kinds, and held-out captions, in the words of the root's own, in
varied words, and short ones that name colour and shape, or any few attributes. Nonsense fails if anything is found. A
true query is lost if it found a picture that shows all it names among its first ten, and with the cut-off no more.
Then pictures are asked: noise, the emoji of FOLDER (`emoji.csv`, `images/`), and drawn ones, which are right where the
scene is the same. `--vectors` names folders with `base.npy` and `query.npy`: asked are the queries, and vectors whose
components come each from another query. One minute on two cores, and three more where --cache has no pictures yet.
"""

import argparse
import csv
import pydoc_data.topics
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from tests.benchmarks.instruments import measuring, report
from tests.benchmarks.instruments.measuring import say
from tests.benchmarks.instruments.vector_folder import unit
from tests.roots import Row, make_root
from transforms.demo import captions
from transforms.demo.captions import Caption
from transforms.demo.drawing import Scene, sample_scenes
from transforms.demo.scoring import encode_scenes
from transforms.encoders import Encoder, load
from transforms.evaluation.estimates import share_of
from transforms.queries import null_results
from transforms.records import Metric, Modality
from transforms.search.hits import Asked, Found
from transforms.search.searcher import Searcher

TOP: Final = 10
QUERIES: Final = 1000
SEED: Final = 7
_SHARD: Final = 4000
_SCRIPTS: Final = ((0x4E00, 0x9FA5), (0x430, 0x44F), (0x3B1, 0x3C9), (0x5D0, 0x5EA), (0x3041, 0x3096), (0xAC00, 0xD7A3))

Vectors = NDArray[np.float32]


def nonsense(count: int, rng: np.random.Generator, emoji: Path | None) -> dict[str, list[str]]:
    """Texts that say nothing of what the demo draws; other words are those of Python's manual."""
    manual = " ".join(pydoc_data.topics.topics.values())
    drawn = {word for caption in map(captions.full, sample_scenes(500, rng)) for word in caption.text.split()}
    drawn |= {"center", "middle", "side", "object", "thing", "shape", "little", "tiny", "several", "image", "picture"}
    words = sorted({word for word in re.findall(r"\b[a-z]{4,}\b", manual) if word not in drawn})
    texts = [" ".join(part.split()) for part in re.split(r"[.:]\s", manual)]
    sentences = [text for text in texts if 30 < len(text) < 120 and re.fullmatch(r"[A-Za-z ,'-]+", text)]

    def of(make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(count)]

    def letters() -> str:
        return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(3, 10)))

    def script() -> str:
        first, last = _SCRIPTS[rng.integers(len(_SCRIPTS))]
        return "".join(chr(rng.integers(first, last)) for _ in range(rng.integers(2, 8)))

    made = {
        "random letters": of(lambda: " ".join(letters() for _ in range(rng.integers(1, 5)))),
        "random words": of(lambda: " ".join(rng.choice(words, rng.integers(1, 6)))),
        "sentences of a manual": of(lambda: str(rng.choice(sentences))),
        "other scripts": of(lambda: " ".join(script() for _ in range(rng.integers(1, 4)))),
        "shuffled sentences": of(lambda: " ".join(rng.permutation(str(rng.choice(sentences)).split()))),
        "captions, letters shuffled": of(
            lambda: " ".join(
                "".join(rng.permutation(list(word))) for word in captions.full(sample_scenes(1, rng)[0]).text.split()
            )
        ),
    }
    if emoji is not None:
        with (emoji / "emoji.csv").open(encoding="utf-8", newline="") as stream:
            names = [row["name"] for row in csv.DictReader(stream)]
        made["names of emoji"] = of(lambda: str(rng.choice(names)))
    return made


def true_captions(count: int, rng: np.random.Generator) -> dict[str, list[Caption]]:
    """Captions of pictures that are in no root."""
    scenes = sample_scenes(count, rng)

    def all_of(scene: Scene, *names: str) -> dict[str, frozenset[str | int]]:
        return {name: frozenset({getattr(scene, name)}) for name in names or captions.ATTRIBUTES}

    return {
        "captions": [captions.full(scene) for scene in scenes],
        "captions in varied words": [captions.worded(all_of(scene), rng) for scene in scenes],
        "colour and shape": [captions.plain(all_of(scene, "colour", "shape")) for scene in scenes],
        "some attributes": [captions.describe(scene, rng) for scene in scenes],
    }


def encode(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    return unit(np.concatenate([encoder.encode_texts(texts[at : at + 256]) for at in range(0, len(texts), 256)]))


def of_pictures(encoder: Encoder, pictures: Sequence[PIL.Image.Image]) -> Vectors:
    return unit(encoder.encode_images(np.stack([encoder.preprocess(picture) for picture in pictures])))


def gallery(encoder: Encoder, count: int, cache: Path) -> tuple[list[Scene], Vectors]:
    """Drawn pictures and their vectors, which are kept."""
    rng, file = np.random.default_rng([SEED, 3]), cache / f"null-{count}.npy"
    scenes = sample_scenes(count, rng)
    if not file.exists():
        say(f"drawing {count} pictures")
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, unit(encode_scenes(encoder, scenes, rng)))
    return scenes, np.load(file)


def root_of(folder: Path, pictures: Vectors, texts: Vectors | None, metric: Metric = "ip") -> Searcher:
    """Makes a root of pictures, with texts or without."""
    shards = []
    for at in range(0, len(pictures), _SHARD):
        shard = [Row(f"k{at + place}", one.tolist()) for place, one in enumerate(pictures[at : at + _SHARD])]
        if texts is not None:
            some = texts[at : at + _SHARD]
            shard += [Row(f"k{at + place}", one.tolist(), "text") for place, one in enumerate(some)]
        shards.append(shard)
    return Searcher.open(make_root(folder, *shards, metric=metric, normalize=metric == "ip"))


def search(searcher: Searcher, queries: Vectors, kind: Modality | None) -> tuple[Found, Found]:
    """What pictures are found, and what of it is left."""
    found = searcher.nearest(queries, Asked(k=TOP, modality="image"))
    own = null_results.cut_offs(searcher, queries, [kind] * len(queries), "image")
    return found, found.cut(own, searcher.generation.trained.metric)


def failing(searcher: Searcher, queries: Vectors, kind: Modality | None) -> dict[str, Any]:
    """The share of queries that find anything."""
    _, left = search(searcher, queries, kind)
    return share(int((left.counts > 0).sum()), len(queries))


def losing(searcher: Searcher, queries: Vectors, kind: Modality | None, right: NDArray[np.bool_]) -> dict[str, Any]:
    """The share of queries that find a right picture, of bool `(q, pictures)`, and with the cut-off none."""
    before, after = (_have_right(found, right) for found in search(searcher, queries, kind))
    return share(int((before & ~after).sum()), int(before.sum()))


def _have_right(found: Found, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
    places = (found.ids >> 16) * _SHARD + (found.ids & 0xFFFF)
    good = right[found.queries, places]
    return np.bincount(found.queries[good], minlength=len(found.counts)) > 0


def share(count: int, of: int) -> dict[str, Any]:
    estimate = share_of(count, of)
    return {
        "percent": round(100 * count / max(of, 1), 1),
        "count": count,
        "of": of,
        "to": round(100 * estimate.high, 1),
    }


def texts_and_pictures(own: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    encoder, rng = load("demo", device="cpu"), np.random.default_rng(5)
    sizes = [int(size) for size in own.sizes.split(",")]
    scenes, pictures = gallery(encoder, max(sizes), own.cache)
    texts = encode(encoder, [captions.full(scene).text for scene in scenes])
    say("encoding queries")
    nothing = {name: encode(encoder, some) for name, some in nonsense(QUERIES, rng, own.emoji).items()}
    true = true_captions(QUERIES, np.random.default_rng(99))
    asked = {name: encode(encoder, [caption.text for caption in some]) for name, some in true.items()}
    others = {"noise": [PIL.Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(200)]}
    if own.emoji is not None:
        files = sorted((own.emoji / "images").glob("*.png"))
        others["emoji"] = [PIL.Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // 300)]]
    foreign = {name: of_pictures(encoder, some) for name, some in others.items()}
    held = sample_scenes(300, rng)
    drawn = unit(encode_scenes(encoder, held, rng))
    rows = []
    for size in sizes:
        say(f"{size} pictures")
        shown = {name: np.array([getattr(scene, name) for scene in scenes[:size]]) for name in captions.ATTRIBUTES}
        searcher = root_of(work / f"root-{size}", pictures[:size], texts[:size])
        began = time.perf_counter()
        least = null_results.cut_offs(searcher, asked["captions"][:1], ["text"], "image")
        row: dict[str, Any] = {
            "pictures": size, "seconds": round(time.perf_counter() - began, 2),
            "near": round(1 - searcher.null_scores["text", "image"].near, 4), "cut_off": round(float(least[0]), 4),
            "nonsense": {name: failing(searcher, some, "text") for name, some in nothing.items()},
            "true": {
                name: losing(searcher, asked[name], "text", np.stack([_shows(shown, one) for one in some]))
                for name, some in true.items()
            },
        }  # fmt: skip
        alone = root_of(work / f"pictures-{size}", pictures[:size], None)
        same = np.stack([_shows(shown, captions.full(scene)) for scene in held])
        of, found = (sum(one[name] for one in row["nonsense"].values()) for name in ("of", "count"))
        row["nonsense"]["all of these texts"] = share(found, of)
        row["nonsense"] |= {f"pictures: {name}": failing(alone, some, "image") for name, some in foreign.items()}
        row["true"]["pictures: drawn"] = losing(alone, drawn, "image", same)
        rows.append(row)
    return rows


def _shows(shown: dict[str, NDArray[Any]], caption: Caption) -> NDArray[np.bool_]:
    every = [np.isin(shown[name], list(values)) for name, values in caption.allowed.items()]
    return np.asarray(np.all(every, axis=0), np.bool_)


def ready(folder: Path, work: Path, metric: Metric) -> dict[str, Any]:
    """The same of vectors: a true query is lost that finds nothing."""
    base, queries = (np.load(folder / name).astype(np.float32) for name in ("base.npy", "query.npy"))
    base, queries = base[:5_000], queries[:QUERIES]
    if metric == "ip":
        base, queries = unit(base), unit(queries)
    rng = np.random.default_rng(0)
    mixed = np.stack([rng.permutation(column) for column in queries.T], axis=1)
    searcher = root_of(work / folder.name, base, None, metric)
    lost = failing(searcher, queries, None)
    return {
        "vectors": folder.name, "rows": len(base), "dim": base.shape[1], "metric": metric,
        "nonsense": failing(searcher, mixed, None),
        "lost": share(lost["of"] - lost["count"], lost["of"]),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="500,5000,20000", help="pictures of each root")
    parser.add_argument("--emoji", type=Path, metavar="FOLDER")
    parser.add_argument("--vectors", type=Path, metavar="FOLDER", action="append", default=[])
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for vectors of pictures")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    own = parser.parse_args(argv)
    found: dict[str, Any] = {"machine": measuring.machine()}
    with tempfile.TemporaryDirectory(prefix="null-") as folder:
        found["roots"] = texts_and_pictures(own, Path(folder))
        metrics: tuple[Metric, ...] = ("ip", "l2")
        found["ready"] = [ready(one, Path(folder) / metric, metric) for one in own.vectors for metric in metrics]
    report.write(own.output, found)
    show(found)


def show(found: dict[str, Any]) -> None:
    roots = found["roots"]
    for part, heading in (("nonsense", "% that find anything"), ("true", "% that lose what is right")):
        rows = [[name, *(root[part][name]["percent"] for root in roots)] for name in roots[0][part]]
        print(report.table([heading, *(f"{root['pictures']:,} pictures" for root in roots)], rows), end="\n\n")
    rows = [[f"{root['pictures']:,} pictures", root["near"], root["seconds"]] for root in roots]
    print(report.table(["", "cut-off", "seconds"], rows), end="\n\n")
    if found["ready"]:
        rows = [
            [f"{one['vectors']}, {one['metric']}", one["rows"], one["nonsense"]["percent"], one["lost"]["percent"]]
            for one in found["ready"]
        ]
        print(report.table(["vectors", "rows", "% mixed that find", "% true that find nothing"], rows))


if __name__ == "__main__":
    main()
