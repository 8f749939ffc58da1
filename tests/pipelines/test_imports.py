"""What a command does not import: half a second is all that one without a pipeline or a model may take to start."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from pipelines import build
from pipelines.terminal.jobs import OPTIONS as JOBS
from tests.encoders import TinyEncoder

BEAM: Final = frozenset({"apache_beam", "grpc"})
MODELS: Final = frozenset({"torch", "torchvision", "open_clip", "timm", "transformers", "safetensors", "PIL"})
FAISS: Final = frozenset({"faiss"})
TABLES: Final = frozenset({"pandas", "scipy", "pyarrow.dataset", "pyarrow.compute"})
STORES: Final = frozenset({"s3fs", "gcsfs", "aiohttp", "urllib3", "botocore", "fsspec.implementations.http"})
PAGES: Final = frozenset({"jinja2", "matplotlib", "tqdm"})
HEAVY: Final = BEAM | MODELS | FAISS | TABLES | STORES | PAGES

CASES: Final[dict[str, tuple[tuple[str, ...], frozenset[str]]]] = {
    "search --vector": (("search", "--root", "{root}", "--vector", "{vector}"), FAISS),
    "search --vector --html": (
        ("search", "--root", "{root}", "--vector", "{vector}", "--html", "{page}"), FAISS | {"PIL", "jinja2"},
    ),
    "inspect": (("inspect", "--root", "{root}"), frozenset()),
    "inspect --files": (("inspect", "--root", "{root}", "--files"), frozenset()),
    "verify": (("verify", "--root", "{root}"), frozenset({"pyarrow.compute"})),
    "gc": (("gc", "--root", "{root}"), frozenset()),
    "rollback": (("rollback", "--root", "{root}", "--to", "1"), frozenset()),
    "plan": (("plan", "--num-vectors", "1e9", "--dim", "512"), FAISS | {"safetensors"}),
    "gc --config": (("gc", "--config", "{config}"), frozenset()),
    "completion": (("completion", "bash"), FAISS | {"PIL", "jinja2", "safetensors"}),
}  # fmt: skip
"""Each command, and which of the heavy modules it may load."""

CODE: Final = """
import json, sys
from pipelines import cli
try:
    code = cli.main(sys.argv[1:])
except SystemExit as ended:
    code = ended.code
sys.stderr.write("\\n" + json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A root, a vector to look for, and where a page may go."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "rows.csv").write_text("text\n" + "".join(f"words {number}\n" for number in range(40)))
    words = ("--csv", str(folder / "rows.csv"), "--text-column", "text", "--encoder", "tests.encoders:TinyEncoder")
    assert build.main(["--root", str(folder / "root"), *words, "--no-progress"]) == 0
    np.save(folder / "vector.npy", np.ones(TinyEncoder().dim, np.float32))
    (folder / "pixdex.yaml").write_text(f"root: {folder / 'root'}\n")
    made = {"config": str(folder / "pixdex.yaml")}
    return made | {
        "root": str(folder / "root"),
        "vector": str(folder / "vector.npy"),
        "page": str(folder / "page.html"),
    }


def loaded_by(argv: list[str], folder: Path) -> set[str]:
    """The modules that a command has loaded when it has ended well."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *argv],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("name", CASES)
def test_a_command_without_a_pipeline_loads_nothing_heavy(name: str, files: dict[str, str], tmp_path: Path) -> None:
    words, allowed = CASES[name]
    assert loaded_by([word.format(**files) for word in words], tmp_path) & HEAVY <= allowed


@pytest.mark.parametrize("command", sorted(JOBS))
def test_options_are_printed_without_beam(command: str, tmp_path: Path) -> None:
    assert not loaded_by([command, "--root", "r", "--print-config"], tmp_path) & HEAVY


@pytest.mark.parametrize("command", sorted(JOBS))
def test_the_help_of_a_job_needs_no_beam(command: str, tmp_path: Path) -> None:
    assert not loaded_by([command, "--help"], tmp_path) & HEAVY


def test_the_help_of_pixdex_needs_not_even_numbers(tmp_path: Path) -> None:
    light = {"numpy", "pyarrow", "msgspec", "importlib.metadata", "yaml", "shtab"}
    for words in (["--help"], ["help", "commands"]):
        assert not loaded_by(words, tmp_path) & (HEAVY | light)


def test_threads_of_a_command_that_wait_leave_their_core_to_others() -> None:
    code = "import os, sys, pipelines; print(os.environ['OMP_WAIT_POLICY'], bool({'torch', 'faiss'} & {*sys.modules}))"
    own = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for said, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        done = subprocess.run([sys.executable, "-c", code], env=own | said, check=True, capture_output=True, text=True)
        assert done.stdout.split() == [expected, "False"]
