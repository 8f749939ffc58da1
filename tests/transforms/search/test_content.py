"""`dedup="content"`: of items that are the same to the byte, or to the letter, the nearest is shown, and no other."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import dear
from tests.roots import Row, make_root, unit
from transforms.records import Metric, Modality
from transforms.search.rules import EQUAL, Rules, are_equal
from transforms.search.searcher import Searcher
from transforms.storage.uris import Located

EAST = np.array([unit(0)], np.float32)
SAME = Rules(dedup="content")
CONTENTS = (b"", b"one", b"two", b"other")
WORDS = ("red", "green")


def png(level: int) -> bytes:
    """The same pixels, packed harder or less."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 4, (32, 32, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(stream, "png", compress_level=level)
    return stream.getvalue()


def picture(folder: Path, key: str, content: bytes | None, degrees: float = 1, uri: str | None = None) -> Row:
    """A row of a picture that lies where the source of the root is; None: it is gone."""
    file = folder / "pictures" / f"{key}.png"
    if content is not None:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return Row(key, unit(degrees), uri=uri or f"file://{file}")


def found(folder: Path, *rows: Row, k: int = 10, trust_uris: bool = False, metric: Metric = "ip") -> list[str]:
    searcher = Searcher.open(make_root(folder, rows, metric=metric, normalize=metric == "ip"), trust_uris=trust_uris)
    return [hit.key for hit in searcher.search(EAST, k, rules=SAME)[0]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that were read, in their order."""
    names: list[str] = []
    pieces = Located.pieces

    def seen(located: Located) -> Iterator[bytes]:
        names.append(Path(located.path).stem)
        return pieces(located)

    monkeypatch.setattr(Located, "pieces", seen)
    return names


def test_copies_under_other_names_are_one_result_and_the_first_is_shown(tmp_path: Path) -> None:
    rows = [picture(tmp_path, key, png(9)) for key in "cab"]
    assert found(tmp_path, *rows, picture(tmp_path, "d", png(9), 2), picture(tmp_path, "e", png(9), 0)) == [
        "e",
        "c",
        "d",
    ]


def test_the_same_pixels_in_other_bytes_are_another_picture(tmp_path: Path) -> None:
    rows = [picture(tmp_path, "a", png(9)), picture(tmp_path, "b", png(0)), picture(tmp_path, "c", png(9))]
    assert found(tmp_path, *rows) == ["a", "b"]


def test_as_many_bytes_are_not_the_same_bytes(tmp_path: Path) -> None:
    assert found(tmp_path, *[picture(tmp_path, key, key.encode()) for key in "abc"]) == ["a", "b", "c"]


def test_results_are_looked_for_until_there_are_as_many_as_are_wanted(tmp_path: Path) -> None:
    copies = [picture(tmp_path, f"copy{number}", b"same") for number in range(60)]
    others = [picture(tmp_path, f"other{number}", b"same", 2 + number) for number in range(3)]
    assert found(tmp_path, *copies, *others, k=3) == ["copy0", "other0", "other1"]


def test_each_object_is_read_once_and_none_whose_vector_is_its_own(tmp_path: Path, read: list[str]) -> None:
    rows = [picture(tmp_path, f"k{number}", b"same", 5 * number) for number in range(9)]
    assert len(found(tmp_path, *rows)) == 9
    assert read == []
    rows = [
        picture(tmp_path, key, content)
        for key, content in zip("abcdef", [b"1", b"2", b"1", b"2", b"33", b"1"], strict=True)
    ]
    store = make_root(tmp_path / "other", rows, number=1)
    searcher = Searcher.open(store, trust_uris=True)
    assert [[hit.key for hit in hits] for hits in searcher.search(np.repeat(EAST, 3, 0), 9, rules=SAME)] == [
        ["a", "b", "e"]
    ] * 3
    assert sorted(read) == ["a", "b", "c", "d", "f"]


def test_the_same_uri_is_the_same_picture_and_is_not_read(tmp_path: Path, read: list[str]) -> None:
    uri = f"file://{tmp_path}/pictures/gone.png"
    assert found(tmp_path, picture(tmp_path, "a", None, uri=uri), picture(tmp_path, "b", None, uri=uri)) == ["a"]
    assert read == []


def test_what_is_gone_is_shown_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [picture(tmp_path, "a", b"x"), *[picture(tmp_path, key, None) for key in "bc"], picture(tmp_path, "d", b"x")]
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path, *rows) == ["a", "b", "c"]
    (record,) = caplog.records
    assert "b.png' cannot be read" in record.getMessage()


def test_what_the_root_must_not_have_read_is_not_and_is_shown(
    tmp_path: Path, read: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"same")
    secrets = [f"file://{tmp_path}/secret.png", f"file://{root}/pictures/../../secret.png"]
    rows = [
        picture(root, "a", b"same"),
        *[picture(root, f"x{place}", b"same", uri=uri) for place, uri in enumerate(secrets)],
    ]
    assert found(root, *rows) == ["a", "x0", "x1"]
    assert read == []
    (record,) = caplog.records
    assert "is not among the sources of the root: if you trust the root, say --trust-uris" in record.getMessage()
    assert found(root, *rows, trust_uris=True) == ["a"]


def test_a_pipe_and_a_folder_are_no_pictures_and_block_nothing(tmp_path: Path) -> None:
    rows = [picture(tmp_path, "a", b"x")]
    (tmp_path / "pictures" / "b.png").mkdir()
    assert found(tmp_path, *rows, picture(tmp_path, "b", None), picture(tmp_path, "c", b"x")) == ["a", "b"]


@pytest.mark.parametrize("modality", ["text", "keyword"])
def test_texts_are_the_same_when_their_words_are(tmp_path: Path, modality: Modality) -> None:
    words = ["a dog", "A dog", "a dog", "a dog "]
    rows = [Row(f"k{place}", unit(1), modality, caption=text) for place, text in enumerate(words)]
    assert found(tmp_path, *rows) == ["k0", "k1", "k3"]


def test_a_picture_and_a_text_are_never_the_same(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/pictures/a.png"
    rows = [
        picture(tmp_path, "a", b"x"),
        Row("t", unit(1), "text", caption="x", uri=uri),
        Row("w", unit(1), "keyword", caption="x", uri=uri),
    ]
    assert found(tmp_path, *rows) == ["a", "t", "w"]


@pytest.mark.parametrize("metric", ["ip", "l2", "l1"])
def test_vectors_are_equal_but_for_their_last_bits(tmp_path: Path, metric: Metric) -> None:
    east = np.array(unit(1), np.float32)
    other = np.nextafter(east, np.float32(2))
    rows = [
        Row("a", east.tolist(), "text", caption="x"),
        Row("b", other.tolist(), "text", caption="x"),
        Row("c", unit(1.5), "text", caption="x"),
    ]
    assert found(tmp_path, *rows, metric=metric) in (["a", "c"], ["b", "c"])


@pytest.mark.parametrize("length", [0, 1e-12, 1.0, 1e14])
def test_equal_is_told_by_length(length: float) -> None:
    one = np.array([unit(1)], np.float32) * np.float32(length)
    assert are_equal(one, one[0] * np.float32(1 + 1e-6), EQUAL).all()
    assert are_equal(one, one[0] * np.float32(1.1), EQUAL).all() == (length == 0)


@pytest.mark.gate
@dear
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["image", "text", "keyword"]), st.integers(0, 3), st.sampled_from([None, *CONTENTS]),
            st.sampled_from(WORDS), st.integers(0, 12),
        ),
        min_size=1,
        max_size=30,
    ),
    metric=st.sampled_from(["ip", "l2"]),
    k=st.integers(1, 12),
)  # fmt: skip
def test_the_results_are_those_of_comparing_everything(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[Modality, int, bytes | None, str, int]],
    metric: Metric,
    k: int,
) -> None:
    folder, made, contents = tmp_path_factory.mktemp("root"), [], []
    kinds = ["image", "text", "keyword"]
    for place, (modality, direction, content, words, item) in enumerate(
        sorted(rows, key=lambda row: kinds.index(row[0]))
    ):
        file = folder / "pictures" / f"{place}.png"
        if modality == "image" and content is not None:
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        key = f"item{item}" if modality == "keyword" else f"{modality}{place}"
        made.append(Row(key, unit(10.25 * direction), modality, place, words, f"file://{file}"))
        contents.append(words if modality != "image" else (place if content is None else content))
    searcher = Searcher.open(make_root(folder, made, metric=metric, normalize=metric == "ip"))
    order = sorted(range(len(made)), key=lambda row: (np.square(EAST[0] - made[row].vector).sum(), row))
    shown: list[int] = []
    seen: set[str] = set()
    for row in order:
        if made[row].key not in seen:
            seen.add(made[row].key)
            same = [
                (made[row].modality, made[row].vector, contents[row])
                == (made[other].modality, made[other].vector, contents[other])
                for other in shown
            ]
            if not any(same):
                shown.append(row)
    assert [hit.id for hit in searcher.search(EAST, k, rules=SAME)[0]] == shown[:k]
