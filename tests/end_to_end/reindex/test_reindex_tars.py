"""Whole roots of tar archives: pages show their members, copies are one, nights follow what moves, damage is named."""

import gzip
import json
from pathlib import Path

import pytest

import pixdex
from pipelines import build, reindex, search, verify
from tests.end_to_end.reindexing import picture
from tests.transforms.sources.row_sources import tar_of
from transforms.storage import uris

TINY = ("--encoder", "tests.encoders:TinyEncoder", "--no-progress")


def write(file: Path, *seeds: int) -> None:
    members: dict[str, bytes] = {"readme": b"what this is"}
    for seed in seeds:
        members |= {
            f"d/{seed}.png": picture(seed),
            f"d/{seed}.txt": b"picture %d" % seed,
            f"d/{seed}.cls": b"%d" % seed,
        }
    file.write_bytes(tar_of(members))


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    last: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return last


def shown(root: Path, page: Path, *flags: str) -> int:
    """Searches for a picture; returns how many pictures of results the page shows."""
    asked = ("--root", str(root), "--image", str(page.with_name("asked.png")), "--html", str(page), "-k", "100")
    assert search.main([*asked, "--encoder", TINY[1], *flags]) == 0
    return page.read_text().count('src="data:image/') - 1


def test_a_root_of_tars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, root, page = tmp_path / "data", tmp_path / "root", tmp_path / "page.html"
    data.mkdir()
    (tmp_path / "asked.png").write_bytes(picture(3))
    write(data / "00.tar", *range(20))
    write(data / "01.tar", 3, *range(20, 40))
    assert build.main(["--root", str(root), "--tars", f"{data}/*.tar", *TINY]) == 0
    built = said(capsys)
    assert (built["items"], built["vectors"], built["rejected"], built["left_out"]) == (41, 41, 0, {"no ending": 2})

    assert shown(root, page) == 41 and "picture 17" in page.read_text()
    with pixdex.open(root, encoder=TINY[1]) as opened:
        both = opened.search(image=tmp_path / "asked.png", k=2)
        once = opened.search(image=tmp_path / "asked.png", k=41, dedup="content")
    assert {hit.place for hit in both} == {f"file://{data}/{name}.tar#d/3.png" for name in ("00", "01")}
    assert {hit.caption for hit in both} == {"picture 3"} and {hit.columns["cls"] for hit in both} == {"3"}
    assert len(once) == 40

    write(data / "00.tar", 77, *range(5, 20))  # before the night, nothing is taken for another picture
    assert shown(root, page) < 41
    capsys.readouterr()
    assert reindex.main(["--root", str(root), "--encoder", TINY[1], "--no-progress"]) == 0
    night = said(capsys)
    found = [night[name] for name in ("new", "changed", "carried", "gone", "unchanged", "embedded")]
    assert found == [1, 15, 15, 5, 21, 1]
    assert shown(root, page) == 37
    with pixdex.open(root, encoder=TINY[1]) as opened:
        for hit in opened.search(image=tmp_path / "asked.png", k=100):
            assert uris.read(hit.uri) == picture(int(str(hit.columns["cls"])))
    assert verify.main(["--root", str(root)]) == 0


@pytest.mark.parametrize("how", ["gzip", "cut", "twice", "text"])
def test_what_cannot_be_a_source_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.tar", "b.tar"):
        write(data / name, *range(4))
    whole = (data / "b.tar").read_bytes()
    bad, words = {
        "gzip": (gzip.compress(whole), "--tars file://{}/b.tar is compressed with gzip"),
        "cut": (whole[:1600], "--tars file://{}/b.tar is cut short in 'd/0.png'"),
        "twice": (whole + whole, "file://{}/b.tar#d/"),
        "text": (b"no tar" * 999, "--tars file://{}/b.tar is no tar archive"),
    }[how]
    (data / "b.tar").write_bytes(bad)
    assert build.main(["--root", str(tmp_path / "root"), "--tars", f"{data}/*.tar", *TINY]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert words.format(data) in lines[-1] and "Traceback" not in "".join(lines)
    assert not list((tmp_path / "root").glob("generations/*.json"))
