"""Beam's options of a command: its own flags are seen in consoles, Beam's pass through, and no guess is Beam's."""

import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from pipelines.running import beam_options
from pipelines.terminal import command_line, options
from pipelines.terminal.jobs import OPTIONS
from transforms.errors import UsageError


def parsed(*argv: str, job: str = "build") -> PipelineOptions:
    return beam_options.of(command_line.read(job, "manual", argv, OPTIONS[job]))


def test_options_are_direct_subclasses_so_that_beam_shows_them() -> None:
    assert [group.__bases__ for group in beam_options.CLASSES] == [(PipelineOptions,)] * len(options.BUILD)
    assert (
        parsed("--index_key", "Flat", "--seed=3").display_data() | {"index_key": "Flat", "seed": 3}
        == parsed("--index_key", "Flat", "--seed=3").display_data()
    )


def test_every_class_has_a_name_of_its_own_which_is_how_beam_tells_them_apart() -> None:
    assert len({str(group) for group in beam_options.CLASSES}) == len(beam_options.CLASSES)


def test_an_unrelated_pipeline_of_the_process_reads_its_own_options_still() -> None:
    assert PipelineOptions(["--direct_num_workers", "3"]).view_as(DirectOptions).direct_num_workers == 3
    assert PipelineOptions([]).get_all_options()["root"] is None


def test_importing_the_jobs_leaves_pipeline_options_alone() -> None:
    code = (
        "import pipelines.running.build, pipelines.running.reindex, pipelines.search\n"
        "from apache_beam.options.pipeline_options import PipelineOptions\n"
        "PipelineOptions(['--runner', 'DirectRunner', '--job_name', 'other']).get_all_options()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_flags_of_beam_pass_through() -> None:
    direct = parsed("--root", "r", "--direct_num_workers", "2", "--experiments=x").view_as(DirectOptions)
    assert direct.direct_num_workers == 2


@pytest.mark.parametrize(
    "words", [("--metrics", "http://u:swordfish@host:9091"), ("--metrics=http://u:swordfish@host:9091",)]
)
@pytest.mark.parametrize("job", ["build", "reindex"])
def test_a_password_that_only_the_launcher_needs_is_in_no_console(job: str, words: tuple[str, ...]) -> None:
    for told in (parsed("--root", "r", *words, "--experiments=x", job=job), parsed(*words, job=job)):
        assert "swordfish" not in str(told.get_all_options()) + str(told.display_data())
        assert not [word for word in told._flags or () if "swordfish" in word]
    assert parsed(*words, "--seed", "3").get_all_options()["seed"] == 3
    assert parsed("--root", "r", *words).get_all_options()["root"] == "r"


@pytest.mark.parametrize(
    ("job", "wrong"),
    [("build", "--columns"), ("build", "--direct_num_worker"), ("reindex", "--columns"), ("reindex", "--zoned")],
)
def test_a_guess_is_a_flag_of_the_job_or_none(job: str, wrong: str) -> None:
    line = command_line.read(job, "", [wrong, "x"], OPTIONS[job])
    with pytest.raises(UsageError, match=f"^unknown flag {wrong}") as caught:
        beam_options.of(line)
    guess = str(caught.value).partition("did you mean ")[2].partition("?")[0]
    assert not guess or guess in line.flags


def test_a_flag_that_another_job_has_says_so() -> None:
    with pytest.raises(UsageError, match=r"^unknown flag --image-column, which is one of pixdex build"):
        parsed("--image-column", "x", job="reindex")


def test_a_value_that_beam_does_not_take_is_refused_in_a_line() -> None:
    with pytest.raises(UsageError, match=r"--direct_num_workers.*see pixdex build --help"):
        parsed("--direct_num_workers", "many")
