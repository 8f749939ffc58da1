"""One stage at a time makes what a build makes, and what is lost on the way is made again."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pipelines import add, build, embed, merge, train
from tests.end_to_end.builds import EVERYTHING, TINY, content, make_work_small, run_here, write_corpus
from tests.tiers import mostly_gate
from transforms.generations import published
from transforms.runs.run import STAGES, Stage
from transforms.storage.store import Store

Main = Callable[[Sequence[str]], int]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    rows = write_corpus(tmp_path_factory.mktemp("corpus"))
    with pytest.MonkeyPatch.context() as patch:
        make_work_small(patch)
        yield ["--csv", str(rows), *EVERYTHING, *TINY, "--index-key", "IVF4,Flat"]


def step(main: Main, root: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert main(["--root", str(root), *arguments]) == 0
    said: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return said


def between(first: Stage, last: Stage) -> set[Stage]:
    return set(STAGES[STAGES.index(first) : STAGES.index(last) + 1])


def test_the_stages_one_by_one_make_what_a_build_makes(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, whole = tmp_path / "root", tmp_path / "whole"
    jobs: tuple[tuple[Main, Stage, Stage], ...] = (
        (embed.main, "plan", "embed"),
        (train.main, "keys", "train"),
        (add.main, "add", "add"),
    )
    for main, first, last in jobs:
        said = step(main, root, arguments, capsys)
        assert set(said) == {"generation", "done", "seconds"}
        assert said["seconds"].keys() == between(first, last)  # type: ignore[attr-defined]  # a dict by the contract
        assert published.current(Store.at(str(root))) is None
    assert step(merge.main, root, arguments, capsys)["generation"] == 1
    run_here(capsys, "--root", whole, *arguments)
    assert content(root) == content(whole)


def test_a_stage_does_what_is_missing_before_it(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = step(train.main, tmp_path / "root", arguments, capsys)
    assert said["seconds"].keys() == between("plan", "train")  # type: ignore[attr-defined]  # a dict by the contract


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory, arguments: list[str]) -> tuple[Path, dict[str, str]]:
    """A root whose add stage is done, to be copied; and what it becomes when nothing is lost."""
    folder = tmp_path_factory.mktemp("added")
    assert add.main(["--root", str(folder / "root"), *arguments]) == 0
    shutil.copytree(folder / "root", folder / "whole")
    assert build.main(["--root", str(folder / "whole"), *arguments]) == 0
    return folder / "root", content(folder / "whole")


@pytest.mark.gate
@pytest.mark.parametrize("harm", ["delete", "cut"])
@pytest.mark.parametrize("lost", ["embeddings/*/*.parquet", "lists/*/*.ivf", "plans/*/sample/*.ivf", "trained/*/*"])
def test_a_file_that_is_lost_or_cut_short_before_publishing_is_made_again(
    tmp_path: Path,
    added: tuple[Path, dict[str, str]],
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    lost: str,
    harm: str,
) -> None:
    root = shutil.copytree(added[0], tmp_path / "root")
    (file, *_) = sorted(path for path in root.glob(lost) if path.suffix != ".json")
    if harm == "delete":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    step(build.main, root, arguments, capsys)
    assert content(root) == added[1]


@pytest.mark.parametrize(
    "runner", mostly_gate(["DirectRunner", "directrunner", "direct", "FnApiRunner"], quick=["direct"])
)
def test_the_in_process_runner_has_many_names(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], runner: str
) -> None:
    assert step(embed.main, tmp_path / "root", [*arguments, "--runner", runner], capsys)["done"] == "embed"


@pytest.mark.gate
def test_the_same_command_is_the_same_request_on_a_machine_with_other_cores(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step(embed.main, tmp_path / "root", arguments, capsys)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert step(build.main, tmp_path / "root", arguments, capsys)["generation"] == 1
    assert run_here(capsys, "--root", tmp_path / "root", *arguments).said["embedded"] == 0
