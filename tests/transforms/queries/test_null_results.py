"""`min_score="auto"`: nonsense finds nothing, what is meant is found, and what cannot be told is refused."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import pixdex
from pipelines import batch_search, search
from tests.roots import Row, make_root
from transforms.batch.request import BatchRequest, Queries
from transforms.errors import UsageError
from transforms.evaluation.null_scores import NullScores
from transforms.queries import null_results
from transforms.queries.answer import Wanted
from transforms.records import Modality
from transforms.search.rules import AUTO, Rules
from transforms.search.searcher import Searcher
from transforms.storage.store import Store
from transforms.tasks.embed.open_encoder import fingerprint_of

ITEMS = 300
DIM = 16
TRUE = [f"item {number}" for number in range(0, ITEMS, 3)]
NONSENSE = [f"nothing of the kind {number}" for number in range(200)]


def direction(seed: object, *, away: float = 0.0) -> list[float]:
    """A direction that any text has, and one that lies a little away."""
    digest = hashlib.sha256(str(seed).encode()).digest()
    vector = np.random.default_rng(list(digest)).standard_normal(DIM)
    vector /= np.linalg.norm(vector)
    turn = np.random.default_rng([*digest, 1]).standard_normal(DIM)
    vector += away * turn / np.linalg.norm(turn)
    made: list[float] = (vector / np.linalg.norm(vector)).tolist()
    return made


class ItemEncoder:
    """Texts are directions; of a picture, so is its redness."""

    dim = DIM
    modalities = frozenset({"image", "text"})
    fingerprint = hashlib.sha256(b"items").hexdigest()
    device = "cpu"

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        red: NDArray[np.float32] = np.asarray(image.resize((1, 1)), np.float32)[0, 0, :1]
        return red

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array([direction(f"item {int(red)}", away=0.2) for (red,) in pixels], np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([direction(text) for text in texts], np.float32)


def rows(kinds: Sequence[Modality] = ("image", "text"), count: int = ITEMS) -> list[Row]:
    turned: dict[Modality, float] = {"image": 0.3, "text": 0.1, "keyword": 0.1}
    return [
        Row(f"k{number}", direction(f"item {number}", away=turned[kind]), kind)
        for kind in kinds
        for number in range(count)
    ]


def item_root(folder: Path, *shards: Sequence[Row], **how: Any) -> str:
    make_root(
        folder,
        *(shards or (rows(),)),
        spec=f"{__name__}:ItemEncoder",
        fingerprint=fingerprint_of(ItemEncoder(), "crop"),
        **how,
    )
    return str(folder)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXDEX_TRUSTED_ENCODERS", f"{__name__}:ItemEncoder")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return item_root(tmp_path_factory.mktemp("null") / "root")


def test_nonsense_finds_nothing_and_what_is_meant_finds_its_picture(root: str) -> None:
    with pixdex.open(root) as opened:
        found = opened.search_many(NONSENSE, min_score="auto")
        assert len(set(found["query"].to_pylist())) <= 0.05 * len(NONSENSE)
        first = opened.search_many(TRUE, k=1, min_score="auto")
        assert first["key"].to_pylist() == [text.replace("item ", "k") for text in TRUE]


def test_results_are_the_first_of_those_without_a_cut_off(root: str) -> None:
    with pixdex.open(root) as opened:
        for text in TRUE[:20]:
            without, left = opened.search(text, k=5), opened.search(text, k=5, min_score="auto")
            assert 0 < len(left) < 5
            assert left == without[: len(left)]


def test_a_picture_is_asked_of_pictures(root: str, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8), (6, 0, 0)).save(tmp_path / "six.png")
    with pixdex.open(root) as opened:
        assert [hit.key for hit in opened.search(image=tmp_path / "six.png", min_score="auto")] == ["k6"]
        assert set(opened._current()[0].null_scores) == {("image", "image")}


def test_a_vector_counts_as_of_the_kind_that_it_is_near_to(tmp_path: Path) -> None:
    far = np.zeros(DIM, np.float32)
    far[0] = 3.0  # texts lie apart from pictures
    texts = [
        Row(f"k{place}", (np.array(row.vector) + far).tolist(), "text") for place, row in enumerate(rows(["text"]))
    ]
    root = item_root(tmp_path / "root", [*rows(["image"]), *texts])
    searcher = Searcher.open(Store.at(root))
    like_text, like_picture = (np.array([row.vector], np.float32) for row in (texts[0], rows(["image"])[0]))
    for kind, vector in (("text", like_text), ("image", like_picture)):
        told: list[Modality | None] = [kind]  # type: ignore[list-item]  # as the loop names them
        np.testing.assert_array_equal(
            null_results.cut_offs(searcher, vector, [None], "image"),
            null_results.cut_offs(searcher, vector, told, "image"),
        )


def test_the_command_finds_what_the_program_finds(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--root", root, "--min-score", "auto"]
    assert search.main([*argv, "item 6", "nothing at all", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [[hit["key"] for hit in one["results"]] for one in said["queries"]] == [["k6"], []]
    assert set(said) == {"generation", "queries"}
    with pixdex.open(root) as opened:
        assert [hit.score for hit in opened.search("item 6", min_score="auto")] == [
            said["queries"][0]["results"][0]["score"]
        ]


def test_what_is_cut_off_is_said(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--root", root, "--min-score", "auto", "nothing at all"]
    assert search.main([*argv, "--explain"]) == 0
    out, err = capsys.readouterr()
    nothing = next(line for line in err.splitlines() if line.startswith("nothing found"))
    cut_off = nothing.split("none scores ")[1].split(" ")[0]
    assert nothing == f"nothing found among {2 * ITEMS} vectors: none scores {cut_off} or more (--min-score auto)"
    assert f"--min-score auto: {cut_off}" in err.splitlines()
    assert out == ""
    assert search.main([*argv, "--explain", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out.splitlines()[-1])["explain"]
    assert explained["cut_offs"] == [pytest.approx(float(cut_off), abs=1e-4)]
    assert "calibrate" in explained["milliseconds"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_batch_finds_the_same(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    texts = [*TRUE[:30], *NONSENSE[:30]]
    (tmp_path / "q.txt").write_text("\n".join(texts))
    argv = ["--root", root, "--queries", str(tmp_path / "q.txt"), "--output", str(tmp_path / "o.parquet")]
    argv += ["--min-score", "auto", "--workers", workers, "--no-progress"]
    assert batch_search.main(argv) == 0
    capsys.readouterr()
    with pixdex.open(root) as opened:
        expected = opened.search_many(texts, min_score="auto")
    found = pq.read_table(tmp_path / "o.parquet")
    for name in ("query", "rank", "id", "key"):
        assert found[name].to_pylist() == expected[name].to_pylist()


def test_threads_calibrate_once(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated: list[int] = []
    of = NullScores.of

    def counted(*given: Any) -> NullScores:
        calibrated.append(1)
        return of(*given)

    monkeypatch.setattr(NullScores, "of", counted)
    searcher = Searcher.open(Store.at(root))
    queries = np.array([direction(text) for text in TRUE], np.float32)

    def ask(_: int) -> list[float]:
        found: list[float] = null_results.cut_offs(searcher, queries, ["text"] * len(queries), "image").tolist()
        return found

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(ask, range(8))
    assert len(calibrated) == 1
    assert all(other == first for other in others)


def without_texts(folder: Path) -> str:
    return item_root(folder, rows(["image"]))


def of_few(folder: Path) -> str:
    return item_root(folder, rows(count=63))


def of_products(folder: Path) -> str:
    return item_root(folder, normalize=False)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (without_texts, "has 0 texts that tell what such queries score, and 64 are the least: give a number"),
        (of_few, "has 63 rows that may be found, and 64 are the least: give a number"),
        (of_products, "scores by products of vectors of any length, which have no scale: give a number"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], str], why: str
) -> None:
    root = make(tmp_path / "root")
    encoder = ["--min-score", "auto"]
    (tmp_path / "q.txt").write_text("item 1")
    batch = ["--queries", str(tmp_path / "q.txt"), "--output", str(tmp_path / "o.parquet"), "--no-progress"]
    assert search.main(["--root", root, *encoder, "item 1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].endswith(why)
    assert batch_search.main(["--root", root, *encoder, *batch]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(why)
    with pixdex.open(root) as opened, pytest.raises(pixdex.UsageError, match="give a number"):
        opened.search("item 1", min_score="auto")


def test_a_query_that_is_expanded_needs_a_number(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pixdex.open(root) as opened, pytest.raises(UsageError, match="says nothing: give a number"):
        opened.search("item 6", expand=3, min_score="auto")
    assert search.main(["--root", root, "item 6", "--expand", "3", "--min-score", "auto"]) == 2
    assert "give a number" in capsys.readouterr().err


def test_texts_whose_pictures_are_others_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mismatched = [Row(row.key, direction(f"word {row.key}"), "text") for row in rows(["text"])]
    root = item_root(tmp_path / "root", [*rows(["image"]), *mismatched])
    with pixdex.open(root) as opened:
        found = opened.search_many([f"word {row.key}" for row in mismatched], min_score="auto")
    assert len(set(found["query"].to_pylist())) < 0.06 * len(mismatched)
    (record,) = caplog.records
    assert "of the texts of the root itself 9" in record.getMessage()


def test_texts_of_their_pictures_are_not(root: str, caplog: pytest.LogCaptureFixture) -> None:
    with pixdex.open(root) as opened:
        opened.search("item 3", min_score="auto")
    assert not caplog.records


@pytest.mark.parametrize("given", ["much", "AUTO", ""])
def test_another_word_is_refused(root: str, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pixdex.open(root) as opened, pytest.raises(UsageError, match="take a score, or auto"):
        opened.search("item 1", min_score=given)  # type: ignore[arg-type]  # on purpose
    assert search.main(["--root", root, "item 1", "--min-score", given]) == 2
    assert "neither a score, such as 0.2, nor auto" in capsys.readouterr().err


def test_a_sample_is_of_what_lives_from_all_over_and_always_the_same(tmp_path: Path) -> None:
    shards = [[row for row in rows(["image", "text"], 500) if int(row.key[1:]) % 5 == part] for part in range(5)]
    root = item_root(tmp_path / "root", *shards, dead=range(50))
    searcher = Searcher.open(Store.at(root))
    assert len(null_results.sample(searcher, "image")) == 450
    assert len(null_results.sample(searcher, None)) == 950
    some = null_results.sample(searcher, "text", 160)
    assert len(some) == 160
    np.testing.assert_array_equal(some, null_results.sample(searcher, "text", 160))
    texts = np.array([row.vector for row in rows(["text"], 500)], np.float32)
    nearest = np.argmax(some @ texts.T, axis=1)
    assert len(set(nearest.tolist())) == 160
    assert {place % 5 for place in nearest.tolist()} == set(range(5))


def test_digests_of_other_requests_are_what_they_were() -> None:
    asked = Queries("file:///q.npy", "1", "npy")
    assert BatchRequest("file:///r", 1, "s", asked).digest == DIGEST
    auto = BatchRequest("file:///r", 1, "s", asked, Wanted(rules=Rules(min_score=AUTO)))
    assert auto.digest != DIGEST


DIGEST = "16c7a663b408e8e8fe11bf8102b8ba7d1cf71dabae3cdb774e7a2aa5cae441d2"
"""Of a request as it was before a score could be `auto`."""
