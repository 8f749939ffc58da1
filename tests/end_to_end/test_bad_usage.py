"""Mistakes of the person at the keyboard: exit code 2, one line that says the way out, and nothing left in the way."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpora import write_pictures
from tests.end_to_end.builds import TINY, Finished, generation_of, run_apart, run_here, write_corpus
from tests.tiers import mostly_gate
from transforms.runs import beginning
from transforms.storage.store import Store

Capture = pytest.CaptureFixture[str]
IMAGE = ("--image-column", "image")


def check_refused(done: Finished, *words: str) -> None:
    """One line on stderr with these words, and nothing on stdout."""
    assert done.code == 2, done.err
    assert done.out == []
    assert len(done.err) == 1, done.err
    assert done.err[0].startswith("pixdex: ")
    for word in words:
        assert word in done.err[0], done.err[0]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_corpus(tmp_path, 4)


CASES: dict[str, tuple[list[str], list[str]]] = {
    "no source": ([], ["--images", "--csv"]),
    "no such CSV": (["--csv", "{folder}/none.csv", *IMAGE], ["none.csv"]),
    "no such folder": (["--images", "{folder}/none"], ["none", "matches no file"]),
    "empty glob": (["--images", "{folder}/pictures/*.tiff"], ["*.tiff", "matches no file"]),
    "missing column": (["--csv", "{csv}", "--image-column", "picture"], ["image, name, group, description, words"]),
    "no column to embed": (["--csv", "{csv}"], ["--text-column", "name, group"]),
    "column without a CSV": (["--images", "{folder}/pictures", *IMAGE], ["--image-column", "--csv"]),
    "missing key column": (["--csv", "{csv}", *IMAGE, "--key-column", "id"], ["--key-column id"]),
    "unknown flag": (["--csv", "{csv}", *IMAGE, "--index-kye", "Flat"], ["--index-kye", "did you mean --index-key"]),
    "unknown flag with =": (["--csv", "{csv}", *IMAGE, "--encodr=demo"], ["--encodr", "did you mean --encoder"]),
    "stray word": (["--csv", "{csv}", *IMAGE, "flat"], ["'flat'"]),
    "no number": (["--csv", "{csv}", *IMAGE, "--encoder-batch", "0"], ["--encoder-batch", "above 0"]),
    "no ratio": (["--csv", "{csv}", *IMAGE, "--max-reject-ratio", "2"], ["from 0 to 1"]),
    "no size": (["--csv", "{csv}", *IMAGE, "--max-index-memory", "much"], ["'much'", "16G"]),
    "no choice": (["--csv", "{csv}", *IMAGE, "--metric-type", "cosine"], ["cosine", "ip", "l2"]),
    "no index key": (["--csv", "{csv}", *IMAGE, "--index-key", "Nonsense"], ["Nonsense", "IVF"]),
    "FastScan key": (["--csv", "{csv}", *IMAGE, "--index-key", "IVF4,PQ4x4fs"], ["FastScan"]),
    "key for another dimension": (["--csv", "{csv}", *IMAGE, "--index-key", "IVF4,PQ5"], ["PQ5", "16 dimensions"]),
    "no regular expression": (["--images", "{folder}/pictures", "--key-pattern", "(?P<a"], ["--key-pattern"]),
    "pattern without groups": (["--images", "{folder}/pictures", "--key-pattern", ".*"], ["names no group"]),
    "header only": (["--csv", "{folder}/header.csv", "--text-column", "text"], ["rows below its header"]),
    "empty CSV": (["--csv", "{folder}/empty.csv", "--text-column", "text"], ["is empty"]),
    "not UTF-8": (["--csv", "{folder}/latin.csv", "--text-column", "téxt"], ["UTF-8"]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_mistake_is_one_line_with_the_way_out(tmp_path: Path, csv: Path, capsys: Capture, case: str) -> None:
    (tmp_path / "header.csv").write_text("text\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    (tmp_path / "latin.csv").write_text("téxt\nà\n", encoding="latin-1")
    flags, words = CASES[case]
    argv = [flag.format(folder=tmp_path, csv=csv) for flag in flags]
    check_refused(run_here(capsys, "--root", tmp_path / "root", *TINY, *argv), *words)
    if (tmp_path / "root").exists():  # found by a worker, after the run had begun
        done = run_here(capsys, "--root", tmp_path / "root", *TINY, "--csv", csv, *IMAGE)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("open_clip:ViT-B-3/openai", ["ViT-B-3"]),
        ("nonsense", ["nonsense"]),
        ("tests.encoders:None", ["tests.encoders"]),
        ("tests.no_such_module:Encoder", ["tests.no_such_module"]),
        ("open_clip:ViT-B-32@{folder}/broken.pt", ["broken.pt"]),
        ("open_clip:ViT-B-32@{folder}/missing.pt", ["missing.pt"]),
    ],
)
def test_an_encoder_that_cannot_be_opened(
    tmp_path: Path, csv: Path, capsys: Capture, encoder: str, words: list[str]
) -> None:
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    argv = ["--root", tmp_path / "root", "--csv", csv, *IMAGE, "--encoder", encoder.format(folder=tmp_path)]
    check_refused(run_here(capsys, *argv), *words)
    assert not (tmp_path / "root").exists()


def test_texts_for_an_encoder_of_pictures_only(tmp_path: Path, csv: Path, capsys: Capture) -> None:
    argv = ["--root", tmp_path / "root", "--csv", csv, *IMAGE, "--text-column", "description"]
    refused = run_here(capsys, *argv, "--encoder", "tests.encoders:PictureOnlyEncoder")
    check_refused(refused, "takes no texts, only images")
    assert not (tmp_path / "root").exists()


def test_a_root_made_with_another_encoder(tmp_path: Path, csv: Path, capsys: Capture) -> None:
    argv = ["--root", tmp_path / "root", "--csv", csv, *IMAGE]
    assert run_here(capsys, *argv, *TINY).code == 0
    refused = run_here(capsys, *argv, "--encoder", "tests.encoders:OtherEncoder")
    check_refused(refused, "tests.encoders:TinyEncoder", "tests.encoders:OtherEncoder", "new root")


def test_a_missing_root(csv: Path, capsys: Capture) -> None:
    check_refused(run_here(capsys, "--csv", csv, *IMAGE, *TINY), "--root is missing")


@pytest.mark.parametrize("protocol", ["s3://bucket/root", "ftp://host/root", "nonsense://root"])
def test_a_root_that_cannot_be_opened(
    csv: Path, capsys: Capture, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    check_refused(run_here(capsys, "--root", protocol, "--csv", csv, *IMAGE, *TINY), "--root " + protocol)


def test_a_root_that_is_a_file(tmp_path: Path, csv: Path, capsys: Capture) -> None:
    (tmp_path / "root").write_text("mine", encoding="utf-8")
    check_refused(run_here(capsys, "--root", tmp_path / "root", "--csv", csv, *IMAGE, *TINY), "cannot be written")
    assert (tmp_path / "root").read_text(encoding="utf-8") == "mine"


def test_a_root_that_cannot_be_written(tmp_path: Path, csv: Path, capsys: Capture) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    root = locked / "root"
    if os.geteuid() == 0:  # whom no mode stops
        root = Path("/proc/pixdex")
    check_refused(run_here(capsys, "--root", root, "--csv", csv, *IMAGE, *TINY), "cannot be written")


# --- found by workers, after the run has begun ---------------------------------------------------------------------


def twins(folder: Path) -> list[str]:
    """Two files whose names differ in Unicode's form only."""
    (picture, *_) = write_pictures(folder / "twins", 1)
    for form in ("NFC", "NFD"):
        (folder / "twins" / unicodedata.normalize(form, "고양이.png")).write_bytes(picture.read_bytes())
    return ["--images", str(folder / "twins")]


def same_primary_key(folder: Path) -> list[str]:
    (folder / "twice.csv").write_text("id,text\n1,a\n2,b\n1,c\n", encoding="utf-8")
    return ["--csv", str(folder / "twice.csv"), "--text-column", "text", "--key-column", "id"]


@pytest.mark.parametrize(
    ("make", "words"),
    mostly_gate(
        [(twins, ["고양이.png is the key of"]), (same_primary_key, ["twice.csv#1 is the key of row 1"])],
        quick=[(twins, ["고양이.png is the key of"])],
    ),
)
def test_two_items_with_one_key_are_refused_by_name_and_other_flags_go_on(
    tmp_path: Path, csv: Path, capsys: Capture, make: Callable[[Path], list[str]], words: list[str]
) -> None:
    argv = ["--root", tmp_path / "root", *TINY]
    wrong = make(tmp_path)
    for _ in range(2):
        refused = run_here(capsys, *argv, *wrong)
        assert refused.code == 2 and refused.out == []
        assert "Traceback" not in " ".join(refused.err) and "while running" not in refused.err[-1]
        assert [line for line in refused.err if line.startswith("pixdex:")] == [refused.err[-1]]
        for word in words:
            assert word in unicodedata.normalize("NFC", refused.err[-1])
    done = run_here(capsys, *argv, "--csv", csv, *IMAGE)
    assert done.code == 0, done.err
    assert generation_of(tmp_path / "root").totals.items == 4


def test_the_same_command_goes_on_when_the_source_is_mended(tmp_path: Path, capsys: Capture) -> None:
    argv = ["--root", tmp_path / "root", *TINY, *same_primary_key(tmp_path)]
    assert run_here(capsys, *argv).code == 2
    (tmp_path / "twice.csv").write_text("id,text\n1,a\n2,b\n3,c\n", encoding="utf-8")
    done = run_here(capsys, *argv)
    assert (done.code, done.said["generation"], done.said["items"]) == (0, 1, 3), done.err


@pytest.mark.gate
def test_too_few_vectors_for_the_codebooks_are_noticed_before_any_work(
    tmp_path: Path, csv: Path, capsys: Capture
) -> None:
    argv = ["--root", tmp_path / "root", *TINY, "--csv", csv, *IMAGE]
    refused = run_here(capsys, *argv, "--index-key", "IVF1,PQ4")
    assert refused.code == 2 and "at least 256 vectors" in refused.err[-1]
    assert not (tmp_path / "root" / "embeddings").exists()
    assert run_here(capsys, *argv, "--index-key", "Flat").code == 0
    assert beginning.unfinished(Store.at(str(tmp_path / "root"))) is None


@pytest.mark.gate
def test_from_a_shell_too_it_is_one_line(tmp_path: Path) -> None:
    check_refused(run_apart("--root", tmp_path / "root", "--csv", tmp_path / "none.csv", *IMAGE), "none.csv")
    check_refused(run_apart("--root", tmp_path / "root", "--imagse", "x", cwd=tmp_path), "did you mean --images?")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seed", "-99999999999999999999999"), "is not a whole number of 64 bits"),
        (("--encoder-threads", "99999999999"), "is not a whole number above 0, up to 1024"),
        (("--encoder-batch", "9" * 400), "is not a whole number above 0"),
        (("--item-timeout", "1e300"), "is not a number of seconds above 0, up to 86400"),
        (("--max-file-bytes", "9" * 400), "is not a size such as"),
    ],
)
def test_a_number_that_no_machine_holds_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    done = run_here(capsys, "--root", tmp_path / "root", "--images", tmp_path, *words)

    assert done.code == 2 and len(done.err) == 1 and said in done.err[0]
    assert not (tmp_path / "root").exists()


def test_a_csv_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    done = run_here(capsys, "--root", tmp_path / "root", "--csv", tmp_path / "rows.csv", "--text-column", "text")

    assert done.code == 2 and "it is a pipe" in done.err[-1]


@pytest.mark.parametrize("root", ["s3://", "a\udcffb"])
def test_a_root_that_no_place_can_have_is_one_line(capsys: pytest.CaptureFixture[str], root: str) -> None:
    done = run_here(capsys, "--root", root, "--images", "/nowhere")

    assert done.code == 2 and len(done.err) == 1 and done.err[0].startswith("pixdex: --root")
