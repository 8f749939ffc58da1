"""Every command that a document shows would be taken, every link leads somewhere, and the maps name what is there."""

import argparse
import importlib.util
import runpy
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from pipelines.terminal import command_line
from tests import documents
from tests.conftest import REPOSITORY
from tests.deploy import commands
from tests.documents import DOCUMENTS
from transforms.errors import UsageError

TEXTS = {str(file.relative_to(REPOSITORY)): file.read_text(encoding="utf-8") for file in DOCUMENTS}
COMMANDS = sorted({tuple(words) for text in TEXTS.values() for words in documents.commands_of(text)})
TOOLS = ("pytest", "mypy", "ruff", "venv", "pre_commit")
"""Modules of other people that documents run: of those, only the files that they are given are looked for."""


class _Taken(BaseException):
    """A parser took a command line: what it would do is not done."""


def test_there_is_a_document_at_every_door() -> None:
    assert set(TEXTS) >= {
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pipelines/README.md", "transforms/README.md",
        "deploy/README.md", "tests/README.md",
    }  # fmt: skip


def test_the_readme_is_short_and_its_first_test_command_is_whole() -> None:
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 150
    # The gate runs the first line that ends so.
    first = next(line for line in lines if line.endswith("-m pytest"))
    assert first.startswith("python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && ")


@pytest.mark.parametrize("name", ["README.md", "pipelines/README.md"])
def test_the_doors_show_every_command_that_writes_to_a_root(name: str) -> None:
    shown = {words[1] for words in documents.commands_of(TEXTS[name]) if words[0] == "pixdex"}
    assert {"build", "embed", "reindex", "search", "plan", "inspect", "verify", "rollback", "gc", "demo"} <= shown


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_would_be_taken(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program, *rest = words
    (options,) = [each.text for each in documents.blocks_of(TEXTS["pipelines/README.md"]) if each.kind == "yaml"]
    (tmp_path / "pixdex.yaml").write_text(options)
    monkeypatch.chdir(tmp_path)
    if program == "pixdex":
        pixdex_takes(words)
    elif program == "bash":
        assert (REPOSITORY / rest[0]).is_file()
    elif "-m" in rest[:2]:
        _, module, *argv = rest[rest.index("-m") :]
        module_takes(module, argv, monkeypatch)
    else:
        script_takes(REPOSITORY / rest[0], rest[1:], monkeypatch)


def pixdex_takes(words: tuple[str, ...]) -> None:
    _, command, *rest = words
    if command in ("plan", "demo", "completion"):  # which need no root
        command_line.parse(command, "", rest, commands.groups(command))
    else:
        commands.parsed(words)


def module_takes(module: str, rest: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if module in TOOLS:
        assert all((REPOSITORY / word).exists() for word in rest if "/" in word)
        return
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    script_takes(Path(spec.origin), rest, monkeypatch)


def script_takes(script: Path, rest: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a script until its parser has taken the command line; one without a parser takes none, and is not run."""
    if "parse_args(" not in script.read_text(encoding="utf-8") + _arguments_of_benchmarks(script):
        assert not rest
        return
    parse = argparse.ArgumentParser.parse_args

    def taken(*args: Any, **kwargs: Any) -> NoReturn:
        parse(*args, **kwargs)
        raise _Taken

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", taken)
    monkeypatch.setattr(sys, "argv", [str(script), *rest])
    monkeypatch.syspath_prepend(str(script.parent))  # where Python looks first when a script is called by its path
    with pytest.raises(_Taken):
        runpy.run_path(str(script), run_name="__main__")


def _arguments_of_benchmarks(script: Path) -> str:
    beside = script.parent / "arguments.py"
    return beside.read_text(encoding="utf-8") if beside.exists() else ""


def test_commands_are_told_from_what_stands_around_them() -> None:
    text = (
        "```sh\na && bin/pixdex demo && b\nA=1 pixdex build \\\n  --root 'x y'  # of x\n# pixdex gc\n"
        "pip install pixdex x\n"
        "pixdex inspect | pixdex\npython a.py > b\n```\n```text\npixdex no\n```\n"
    )
    assert documents.commands_of(text) == [
        ["pixdex", "demo"],
        ["pixdex", "build", "--root", "x y"],
        ["pixdex", "inspect"],
        ["pixdex"],
        ["python", "a.py"],
    ]


@pytest.mark.parametrize(
    "wrong", ["pixdex plan --num-vektors 1", "pixdex demo --foldr x", "pixdex reindex --root x --images y"]
)
def test_a_wrong_command_of_pixdex_would_be_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="unknown flag"):
        pixdex_takes(tuple(wrong.split()))


def test_hooks_use_what_is_installed() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].split()[0] for hook in hooks] == ["ruff", "ruff", "mypy", "lint-imports"]


def test_a_wrong_command_of_a_script_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        script_takes(REPOSITORY / "deploy/flink/cluster.py", ["start", "--slotz", "2"], monkeypatch)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_what_is_there(name: str) -> None:
    missing = []
    for link in documents.links_of(TEXTS[name]):
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        if not target.exists() or (anchor and anchor not in documents.anchors_of(target.read_text(encoding="utf-8"))):
            missing.append(link)
    assert not missing


@pytest.mark.parametrize("name", TEXTS)
def test_files_of_code_that_a_document_names_are_there(name: str) -> None:
    beside = [(REPOSITORY / name).parent, REPOSITORY, REPOSITORY / "tests/benchmarks"]
    assert not [
        script for script in documents.scripts_of(TEXTS[name]) if not any((at / script).is_file() for at in beside)
    ]


@pytest.mark.parametrize("package", ["pipelines", "transforms"])
def test_the_map_of_a_package_names_its_rooms_and_their_modules(package: str) -> None:
    folder = REPOSITORY / package
    drawn: dict[str, set[str]] = {}
    for row in documents.maps_of(TEXTS[f"{package}/README.md"]):
        drawn.setdefault(row.room, set()).update(row.modules)
    real: dict[str, set[str]] = {}
    for file in folder.rglob("*.py"):
        room = file.parent.relative_to(folder).as_posix()
        real.setdefault("" if room == "." else room, set())
        if not file.stem.startswith("__"):
            real["" if room == "." else room].add(file.stem)
    assert drawn == real


def test_the_floors_are_those_that_the_contracts_hold() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(each["layers"] for each in contracts["contracts"] if each.get("containers") == ["transforms"])
    held = [set(layer.replace("|", " ").split()) for layer in layers]
    assert documents.floors_of(TEXTS["transforms/README.md"]) == held
