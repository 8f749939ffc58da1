"""`pixdex search`: one query in, a table or one JSON object out, and one line when it cannot be."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from pipelines import search
from pipelines.search import table
from pipelines.terminal.text_table import cells_of
from tests.roots import Row, make_root, unit
from transforms.search.hits import Hit
from transforms.tasks.embed.open_encoder import fingerprint_of


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


VAST = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n")
CUT = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2\n")
NAMED = {"name": "빨간 동그라미", "group": "shapes"}


class CompassEncoder:
    """Texts "east" and "north", and pictures that are red or blue, are directions in the plane."""

    dim = 2
    modalities = frozenset({"image", "text"})
    fingerprint = hashlib.sha256(b"compass").hexdigest()
    device = "cpu"

    def preprocess(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        colour: NDArray[np.float32] = np.asarray(image.resize((1, 1)), np.float32)[0, 0]
        return colour

    def encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return pixels[:, [0, 2]]

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([unit({"east": 0, "north": 90}.get(text, 45)) for text in texts], np.float32)


class PictureEncoder(CompassEncoder):
    """The same, without texts."""

    modalities = frozenset({"image"})


def compass_root(folder: Path, *rows: Row, encoder: type[CompassEncoder] = CompassEncoder) -> str:
    make_root(
        folder,
        rows or (Row("e", unit(1), columns=NAMED), Row("n", unit(89)), Row("words", unit(0), "text", caption="east")),
        spec=f"{__name__}:{encoder.__name__}",
        fingerprint=fingerprint_of(encoder(), "crop"),
        modalities=tuple(sorted(encoder.modalities)),
    )
    return str(folder)


def found(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    assert search.main([*argv, "--json"]) == 0
    return [result["key"] for result in json.loads(capsys.readouterr().out.splitlines()[-1])["results"]]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr of a search that exits with 2 and prints nothing else."""
    assert search.main(argv) == 2
    out, err = capsys.readouterr()
    lines: list[str] = [line for line in err.splitlines() if not line.startswith("WARNING clustering")]
    assert (out, len(lines)) == ("", 1)
    return lines[0]


def vector_file(folder: Path, values: object, name: str = "query.npy") -> str:
    np.save(folder / name, np.array(values))
    return str(folder / name)


def test_a_text_finds_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path)
    assert found(capsys, "--root", root, "east") == ["e", "n"]
    assert found(capsys, "--root", root, "north") == ["n", "e"]


def test_words_need_no_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path)
    assert found(capsys, "--root", root, "-k", "1", "somewhere", "else") == found(
        capsys, "somewhere else", "--root", root, "-k", "1"
    )


def test_a_text_finds_texts_where_there_are_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path, Row("a", unit(3), "text"), Row("b", unit(2), "text"), Row("w", unit(1), "keyword"))
    assert found(capsys, "--root", root, "east") == ["b", "a"]


def test_a_text_finds_keywords_where_there_is_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path, Row("w", unit(1), "keyword"))
    assert found(capsys, "--root", root, "east") == ["w"]


def test_a_picture_finds_what_looks_like_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path / "root")
    PIL.Image.new("RGB", (9, 7), "blue").save(tmp_path / "blue.png")
    assert found(capsys, "--root", root, "--image", str(tmp_path / "blue.png")) == ["n", "e"]


def test_a_vector_finds_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path)
    assert found(capsys, "--root", root, "--vector", vector_file(tmp_path, unit(0))) == ["words", "e", "n"]


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
@pytest.mark.parametrize("dtype", ["float16", "float64", "int64"])
def test_a_vector_may_be_of_any_number_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...], dtype: str
) -> None:
    file = vector_file(tmp_path, np.array([0, 5], dtype).reshape(shape))
    assert found(capsys, "--root", compass_root(tmp_path), "--vector", file, "-k", "1") == ["n"]


def test_the_modality_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path)
    assert found(capsys, "--root", root, "east", "--modality", "text") == ["words"]
    assert found(capsys, "--root", root, "east", "--modality", "any") == ["words", "e", "n"]


def test_json_is_one_object_of_exactly_these_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search.main(["--root", compass_root(tmp_path), "east", "--json", "-k", "1"])
    said = json.loads(capsys.readouterr().out)
    assert list(said) == ["generation", "results"]
    assert said["results"] == [
        {
            "rank": 1,
            "score": pytest.approx(np.cos(np.deg2rad(1)), abs=1e-6),
            "id": 0,
            "key": "e",
            "uri": "file:///pictures/e.png",
            "modality": "image",
            "part": 0,
            "caption": None,
            "columns": NAMED,
            "exact": True,
            "captions": [],
        }
    ]


def test_a_page_of_pictures_is_written_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "results.html"
    assert search.main(["--root", compass_root(tmp_path / "root"), "east", "--html", str(page)]) == 0
    assert "빨간 동그라미" in page.read_text(encoding="utf-8")
    assert "빨간 동그라미" in capsys.readouterr().out


# --- the table ------------------------------------------------------------------------------------------------------


def hit(rank: int, **fields: object) -> Hit:
    values: dict[str, object] = {
        "rank": rank, "score": 0.5, "id": rank, "key": "k", "uri": f"file:///a/long/way/to/picture-{rank}.png",
        "modality": "image", "part": 0, "caption": None, "columns": {},
    }  # fmt: skip
    return Hit(**{**values, **fields})  # type: ignore[arg-type]  # fields of a test


def test_names_and_groups_are_shown_where_there_are_any() -> None:
    assert table([hit(1)], 200).splitlines()[0].split() == ["rank", "score", "uri"]
    assert table([hit(1, columns={"name": "n", "group": "g"})], 200).splitlines()[0].split() == [
        "rank", "score", "name", "group", "uri",
    ]  # fmt: skip
    assert table([hit(1, caption="c")], 200).splitlines()[0].split() == ["rank", "score", "caption", "uri"]


def test_wide_characters_stay_in_their_columns() -> None:
    names = ["circle", "빨간 동그라미", "😀", "❤️", "👨\u200d👩\u200d👧", "한글".encode().decode()]
    lines = table([hit(n, columns={"name": name}) for n, name in enumerate(names, 1)], 200).splitlines()
    assert len({cells_of(line.partition("file://")[0]) for line in lines[1:]}) == 1


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_line_is_never_wider_than_the_terminal(width: int) -> None:
    hits = [hit(1, columns={"name": "아주 긴 이름 " * 9, "group": "g" * 70}, uri="file:///" + "x/" * 90 + "end.png")]
    lines = table(hits, width).splitlines()
    assert all(cells_of(line) <= width for line in lines)
    assert lines[1].endswith("end.png")


def test_a_name_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in table([hit(1, columns={"name": "a\x1b[2Jb\nc"})], 200)


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queries", [[], ["a text", "--vector", "y"], ["--image", "x", "--vector", "y"]])
def test_there_is_a_query_and_vectors_stand_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], queries: list[str]
) -> None:
    assert "give queries" in refused(capsys, "--root", compass_root(tmp_path), *queries)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (["--vector", ""], "--vector is empty"),
        (["--image="], "--image is empty"),
        ([""], "the query is empty"),
        ([" ", ""], "the query is empty"),
        (["east", "--html", ""], "--html is empty"),
    ],
)
def test_an_unset_variable_of_the_shell_is_no_query(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], query: list[str], said: str
) -> None:
    assert said in refused(capsys, "--root", compass_root(tmp_path), *query)


def test_a_query_that_is_no_utf_8_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--root", compass_root(tmp_path), "bad\udcff", "--html", str(tmp_path / "h.html")]
    assert r"'bad\udcff' holds bytes that are no UTF-8" in refused(capsys, *argv)


@pytest.mark.parametrize("flag", ["--root", "--vector", "--html"])
def test_a_home_of_nobody_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    argv = {"--root": compass_root(tmp_path), "--vector": vector_file(tmp_path, unit(0))} | {flag: "~nobodyx/y"}
    said = refused(capsys, *[word for pair in argv.items() for word in pair])
    assert f"{flag} ~nobodyx/y: there is no such user" in said


@pytest.mark.parametrize("flag", ["--root", "--vector", "--image", "--html"])
def test_a_relative_path_below_a_folder_that_is_gone_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    argv = {"--root": compass_root(tmp_path / "root")} | {flag: "relative"}
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    query = ["east"] if flag in ("--root", "--html") else []
    said = refused(capsys, *query, *[word for pair in argv.items() for word in pair])
    assert f"{flag} relative" in said


def test_a_missing_root_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--root is missing" in refused(capsys, "east")


def test_an_unknown_root_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refused(capsys, "east", "--root", str(tmp_path / "nowhere"))


def test_an_empty_root_names_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pixdex build" in refused(capsys, "east", "--root", str(tmp_path))


def test_a_text_for_a_picture_encoder_names_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path, Row("a", unit(3)), encoder=PictureEncoder)
    assert "takes no texts, only pictures: search with --image" in refused(capsys, "--root", root, "east")


def test_an_encoder_that_is_no_longer_the_same_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_root(tmp_path, [Row("a", unit(3))], spec=f"{__name__}:CompassEncoder", fingerprint="0" * 64)
    assert search.main(["--root", str(tmp_path), "east"]) == 1
    assert "restore the weights" in capsys.readouterr().err


@pytest.mark.parametrize("k", ["0", "-3", "many"])
def test_k_is_a_whole_number_above_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str], k: str) -> None:
    assert "not a whole number above 0" in refused(capsys, "--root", compass_root(tmp_path), "east", "-k", k)


def test_a_modality_that_is_not_there_says_what_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--root", compass_root(tmp_path), "east", "--modality", "keyword")
    assert "2 images, 1 texts and 0 keywords" in said


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_an_unreadable_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    said = refused(capsys, "--root", compass_root(tmp_path / "root"), "--image", str(file))
    assert "picture.png is not a readable picture" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, 2.0, 3.0], r"(1, 3)"),
        ([[[1.0, 2.0], [3.0, 4.0]]], "shape (1, 2, 2): give one vector, or one a row"),
        (np.empty((0, 2)), "shape (0, 2): give one vector"),
        ([0.0, 0.0], "zero"),
        ([np.nan, 1.0], "not finite"),
        (["a", "b"], "no array of numbers"),
        (3.0, "shape ()"),
    ],
)
def test_a_vector_that_cannot_be_searched_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: object, said: str
) -> None:
    root = compass_root(tmp_path / "root")
    assert said in refused(capsys, "--root", root, "--vector", vector_file(tmp_path, values))


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x93NUMPY\x01\x00broken", VAST, CUT, b"PK\x03\x04broken"])
def test_an_unreadable_vector_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = tmp_path / "query.npy"
    if content is not None:
        file.write_bytes(content)
    said = refused(capsys, "--root", compass_root(tmp_path / "root"), "--vector", str(file))
    assert "query.npy is not a readable .npy file" in said


def test_a_pipe_is_no_vector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "query.npy")
    root = compass_root(tmp_path / "root")
    assert "not a regular file" in refused(capsys, "--root", root, "--vector", str(tmp_path / "query.npy"))


def test_a_vector_is_never_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "query.npy", np.array([{"a": 1}], object), allow_pickle=True)
    root = compass_root(tmp_path / "root")
    assert "not a readable .npy file" in refused(capsys, "--root", root, "--vector", str(tmp_path / "query.npy"))


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = compass_root(tmp_path / "root")
    assert "cannot be written" in refused(capsys, "--root", root, "east", "--html", str(tmp_path / "no" / "page.html"))


def test_an_unknown_flag_names_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nprobe" in refused(capsys, "--root", compass_root(tmp_path), "east", "--nprobes", "3")


def test_a_mistyped_flag_is_answered_with_one_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--root", compass_root(tmp_path), "east", "--jsom")
    assert "unknown flag --jsom, did you mean --json?" in line


def test_a_word_after_two_dashes_is_no_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(capsys, "--root", compass_root(tmp_path), "--json", "-k", "1", "--modality", "any", "--", "east")


@pytest.mark.parametrize("query", [["east"], ["--image", "picture.png"]])
def test_ready_embeddings_are_searched_with_a_vector_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], query: list[str]
) -> None:
    make_root(tmp_path / "root", [Row("e", unit(1))], spec="none", modalities=("image",))
    line = refused(capsys, "--root", str(tmp_path / "root"), *query)
    assert "search with --vector FILE.npy" in line
    assert found(capsys, "--root", str(tmp_path / "root"), "--vector", vector_file(tmp_path, unit(0))) == ["e"]


def test_an_index_that_cannot_be_scanned_fast_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be scanned fast" in refused(capsys, "--root", compass_root(tmp_path), "east", "--fast-scan")


def test_a_flag_of_beam_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--runner" in refused(capsys, "--root", compass_root(tmp_path), "east", "--runner=FlinkRunner")


def test_a_vector_search_imports_no_torch(tmp_path: Path) -> None:
    argv = ["--root", compass_root(tmp_path), "--vector", vector_file(tmp_path, unit(0))]
    code = f"import sys; from pipelines import search; search.main({argv!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_flags_of_a_search_are_none_of_a_pipeline() -> None:
    code = (
        "import pipelines.search, pipelines.inspect\n"
        "from apache_beam.options.pipeline_options import PipelineOptions\n"
        "assert 'query' not in PipelineOptions([]).get_all_options()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_result_among_many_of_one_file_is_named_by_its_row() -> None:
    hits = [Hit(1, 0.5, 17, "file:///a.npy#17", "file:///a.npy", "image", 0, None, {})]
    assert "file:///a.npy#17" in table(hits)
    assert Hit(1, 0.5, 17, "file:///b.png", "file:///b.png", "image", 0, None, {}).place == "file:///b.png"
