"""`pixdex demo`: everything at once, again and again in one folder, and never over other people's files."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines import cli, demo
from transforms.errors import UsageError


def test_the_demo_builds_searches_writes_a_page_and_can_be_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PICTURES", 120)
    folder = tmp_path / "a folder"
    assert demo.main(["--dir", str(folder)]) == 0
    first, _ = capsys.readouterr()
    assert (folder / "results.html").read_text(encoding="utf-8").count("<section>") == 4

    assert demo.main(["--dir", str(folder)]) == 0
    second, told = capsys.readouterr()
    assert "already" in told
    assert _tables(second) == _tables(first)

    # What it says to go on with can be pasted.
    command = next(line for line in second.splitlines() if line.strip().startswith("pixdex search"))
    assert cli.main([*shlex.split(command)[1:], "-k", "1"]) == 0
    assert "triangle" in capsys.readouterr().out


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    assert demo.folder_for(tmp_path) == tmp_path / "pixdex-demo"
    assert "other things" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_folder_named_corpus_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.csv").write_text("word,count\n")
    assert demo.folder_for(tmp_path) == tmp_path / "pixdex-demo"


def test_a_demo_that_was_interrupted_while_drawing_goes_on_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".corpus-x1y2" / "corpus").mkdir(parents=True)
    assert demo.folder_for(tmp_path) == tmp_path


@pytest.mark.parametrize("inside", [False, True])
def test_where_it_cannot_work_it_says_so(tmp_path: Path, inside: bool) -> None:
    taken = tmp_path / "taken"
    if inside:
        (taken / "pixdex-demo").mkdir(parents=True)
        (taken / "other").write_text("")
        (taken / "pixdex-demo" / "other").write_text("")
    else:
        taken.write_text("")
    with pytest.raises(UsageError, match="name a"):
        demo.folder_for(taken)


def _tables(shown: str) -> str:
    return re.sub(r"That took.*", "", shown)
