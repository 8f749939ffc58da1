"""A root that somebody else made runs none of its code, whatever it names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.builds import REPOSITORY
from transforms.encoders import trusted


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root whose encoder leaves a file where its module is imported."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "evil.py").write_text(
        "import pathlib\n"
        "from tests.encoders import TinyEncoder as Evil\n"
        "pathlib.Path(__file__).with_name('was imported').touch()\n"
    )
    (folder / "rows.csv").write_text("text\n" + "".join(f"words {number}\n" for number in range(20)))
    words = ("--csv", "rows.csv", "--text-column", "text", "--encoder", "evil:Evil", "--no-progress")
    assert run(folder, "build", *words).returncode == 0
    (folder / "was imported").unlink()
    with (folder / "rows.csv").open("a") as stream:
        stream.write("more words\n")
    return folder


def run(folder: Path, command: str, *words: str, trust: str = "") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", trusted.VARIABLE: trust}
    return subprocess.run(
        [sys.executable, "-P", "-m", "pipelines", command, "--root", "root", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [("search", "words 3"), ("search", "--encoder", "demo", "words 3"), ("reindex",), ("reindex", "--dry-run")],
    ids=" ".join,
)
def test_a_class_that_only_the_root_names_is_not_imported(evil: Path, words: tuple[str, ...]) -> None:
    done = run(evil, *words)

    assert done.returncode == 2
    assert "evil:Evil" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (evil / "was imported").exists()


@pytest.mark.gate
@pytest.mark.parametrize("words", [("inspect",), ("verify",), ("gc", "--keep", "1"), ("rollback",)], ids=" ".join)
def test_nothing_else_imports_it(evil: Path, words: tuple[str, ...]) -> None:
    run(evil, *words)

    assert not (evil / "was imported").exists()


@pytest.mark.parametrize(("words", "trust"), [(("--encoder", "evil:Evil"), ""), ((), "evil")], ids=["flag", "variable"])
def test_it_is_imported_for_whoever_trusts_it(evil: Path, words: tuple[str, ...], trust: str) -> None:
    done = run(evil, "search", *words, "words 3", trust=trust)

    assert done.returncode == 0, done.stderr
    assert (evil / "was imported").exists()
    (evil / "was imported").unlink()
