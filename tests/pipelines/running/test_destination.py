"""Where a graph goes is known without Beam, where no flag of Beam was given; and what is wrong is told without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.running import destination
from pipelines.running.destination import Destination
from pipelines.terminal import command_line
from pipelines.terminal.command_line import Parser
from pipelines.terminal.jobs import OPTIONS
from tests.pipelines.test_imports import BEAM, MODELS
from transforms.errors import UsageError

CODE = """
import json, sys
from pipelines import cli
from pipelines.terminal import process
def main():
    try:
        return cli.main(sys.argv[1:])
    finally:
        sys.stderr.write("\\n" + json.dumps(sorted(sys.modules)))
process.run(main)
"""


def ran(*argv: object) -> tuple[int, list[str], set[str]]:
    """Runs a command in a process of its own: its exit code, its lines on stderr, and what it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, argv)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    return done.returncode, [line for line in lines[:-1] if line], set(json.loads(lines[-1]))


def of(*argv: str, job: str = "build") -> Destination:
    return Destination.of(command_line.read(job, "", argv, OPTIONS[job]))


def test_without_a_flag_of_beam_a_job_is_one_of_this_machine() -> None:
    for words, is_one in (((), True), (("--workers", "1"), True), (("--workers", "2"), False)):
        made = of("--root", "r", *words)
        assert (made.says_nothing, made.runner, made.is_dataflow, made.is_one_process) == (True, None, False, is_one)
    assert not of("--runner", "FnApiRunner").says_nothing
    assert not of("--runner", "FnApiRunner").is_one_process


def test_every_flag_of_beam_is_known_by_the_text_of_its_modules() -> None:
    parser = Parser(allow_abbrev=False, add_help=False)
    for group in PipelineOptions.__subclasses__():
        if group.__module__.startswith("apache_beam."):
            group._add_argparse_args(parser)  # type: ignore[arg-type]  # only its own class of parser is declared
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    assert len(flags) > 100
    assert [flag for flag in flags if not destination._may_be_of_beam(flag)] == []
    assert destination._may_be_of_beam("--job_endpoint=x") and not destination._may_be_of_beam("--job_endpiont=x")


def test_without_the_text_of_beam_any_flag_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destination, "_FLAGS_OF_BEAM", ("gone.py",))
    assert destination._may_be_of_beam("--nonsense")
    with pytest.raises(UsageError, match="unknown flag --nonsense"):
        of("--nonsense")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "--images", "{folder}/none", "--encoder", "demo"), "matches no file"),
        (("build", "--csv", "{folder}/none.csv", "--text-column", "t"), "none.csv"),
        (("build", "--vectors", "{folder}/none"), "none"),
        (("build", "--vectors", "{folder}", "--index-kye", "Flat"), "did you mean --index-key"),
        (("build", "--vectors", "{folder}", "stray"), "'stray' is not expected here"),
        (("build", "--vectors", "{folder}", "--metric-type", "cosine"), "cosine"),
        (("build", "--vectors", "{folder}", "--index-key", "IVF4,PQ5"), "PQ5"),
        (("reindex",), "there is no such folder"),
    ],
)
def test_a_mistake_is_told_before_beam_or_a_model_is_imported(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, 8), np.float32))
    code, lines, modules = ran(*(word.format(folder=tmp_path) for word in words), "--root", tmp_path / "root")
    assert (code, len(lines)) == (2, 1) and said in lines[0], lines
    assert not modules & (BEAM | MODELS - {"PIL", "safetensors"})


def test_a_root_of_another_encoder_is_told_before_either_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"words {number}\n" for number in range(9)))
    words = ("build", "--root", tmp_path / "root", "--csv", tmp_path / "rows.csv", "--text-column", "text")
    code, lines, modules = ran(*words, "--encoder", "tests.encoders:TinyEncoder")
    assert (code, "pymongo" in modules) == (0, False), lines
    for encoder in ("demo", "open_clip:ViT-B-32/openai"):
        code, lines, modules = ran(*words, "--encoder", encoder)
        assert code == 2 and f"(encoder tests.encoders:TinyEncoder, not {encoder})" in lines[0]
        assert not modules & (BEAM | MODELS - {"PIL", "safetensors"})


def test_a_night_with_nothing_to_do_needs_neither_beam_nor_faiss(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((30, 8), np.float32))
    (tmp_path / "rows.csv").write_text("text\n" + "".join(f"words {number}\n" for number in range(9)))
    rows = ("--csv", tmp_path / "rows.csv", "--text-column", "text", "--encoder", "tests.encoders:TinyEncoder")
    for name, sources in (("ready", ("--vectors", tmp_path / "v.npy")), ("rows", rows)):
        assert ran("build", "--root", tmp_path / name, *sources, "--no-report")[0] == 0
        code, _, modules = ran("reindex", "--root", tmp_path / name)
        assert code == 0
        assert modules & (BEAM | MODELS | {"faiss"}) <= {"PIL"}


def test_what_beam_can_do_without_is_there_for_others_afterwards(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pipelines.running import destination\n"
        "destination._import_beam_alone()\n"
        "assert 'apache_beam' in sys.modules and not {'pandas', 'pymongo', 'boto3'} & {*sys.modules}\n"
        "import pandas, pymongo, boto3, google.cloud.storage\n"
        "import apache_beam as beam\n"
        "with beam.Pipeline() as pipeline:\n"
        "    pipeline | beam.Create([1]) | beam.Map(print)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["1"]), done.stderr
