"""The build job's own parts: its request, its last line, and how it tells two requests apart."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from pipelines.running import runners
from pipelines.running.build import build
from pipelines.running.request import default_threads, difference, request_of, request_of_vectors, sources_of
from pipelines.terminal import command_line, options
from tests.corpora import write_pictures
from tests.transforms.small_runs import TINY
from transforms import encoders
from transforms.errors import UsageError
from transforms.records import EncoderSettings, IndexSettings, Request, Source
from transforms.tasks.embed import open_encoder

REQUEST = Request((Source("images", "file:///p"),), TINY, IndexSettings())


def request(*argv: str) -> Request:
    asked = command_line.parse("build", "", ["--encoder", "tests.encoders:TinyEncoder", *argv], options.BUILD)
    return request_of(asked, sources_of(asked), encoders.load(asked.encoder), asked.encoder_threads or 4)


def test_a_request_is_made_of_everything_that_changes_a_byte() -> None:
    found = request(
        "--images", "/p", "--encoder-batch", "8", "--encoder-threads", "2", "--image-fit", "pad", "--pixel-limit", "99",
        "--no-normalize", "--precision", "full", "--index-key", "Flat", "--metric-type", "l2", "--seed", "5",
    )  # fmt: skip
    assert found.sources == (Source("images", "file:///p"),)
    assert found.index == IndexSettings("Flat", "l2")
    assert found.seed == 5
    assert found.encoder == EncoderSettings(
        spec="tests.encoders:TinyEncoder", fingerprint=found.encoder.fingerprint, dim=16, modalities=("image", "text"),
        image_fit="pad", device="auto", batch=8, threads=2, pixel_limit=99, normalize=False, precision="full",
    )  # fmt: skip


@pytest.mark.parametrize("flags", [["--max-reject-ratio", "1"], ["--abandon-plan"], ["--no-progress"], ["--root", "x"]])
def test_options_that_change_no_byte_are_no_part_of_it(flags: list[str]) -> None:
    assert request("--images", "/p") == request("--images", "/p", *flags)


def test_relative_and_absolute_paths_are_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert request("--images", "p/../q") == request("--images", f"{tmp_path}/q")


def test_how_pictures_are_fitted_makes_another_encoder() -> None:
    crop, pad = request("--images", "/p"), request("--images", "/p", "--image-fit", "pad")
    assert crop.encoder.fingerprint != pad.encoder.fingerprint


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (replace(REQUEST, seed=1), "seed 0, not 1"),
        (replace(REQUEST, sources=()), "other sources"),
        (replace(REQUEST, index=IndexSettings("Flat", "l2")), "key 'auto', not 'Flat'; metric 'ip', not 'l2'"),
        (replace(REQUEST, encoder=replace(TINY, batch=9)), "batch 8, not 9"),
        (replace(REQUEST, encoder=replace(TINY, fingerprint="1" * 64)), "not tests.encoders:TinyEncoder with 11111"),
    ],
)  # fmt: skip
def test_the_difference_of_two_requests_is_said_in_a_few_words(changed: Request, words: str) -> None:
    assert words in difference(REQUEST, changed)


def ready_request(dim: int, *argv: str) -> Request:
    asked = command_line.parse("build", "", ["--vectors", "/v", *argv], options.BUILD)
    return request_of_vectors(asked, sources_of(asked), dim, asked.encoder_threads or 4)


def test_a_request_of_ready_embeddings_names_no_encoder() -> None:
    found = ready_request(16, "--no-normalize", "--encoder-threads", "3").encoder
    assert (found.spec, found.dim, found.modalities, found.normalize, found.threads) == ("none", 16, (), False, 3)
    assert found.fingerprint == hashlib.sha256(b"none:16").hexdigest()


@pytest.mark.parametrize(
    "flags",
    [
        ["--image-fit", "pad"], ["--device", "cpu"], ["--encoder-batch", "8"], ["--pixel-limit", "99"],
        ["--precision", "full"],
    ],
)  # fmt: skip
def test_what_only_an_encoder_asks_for_is_no_part_of_a_request_without_one(flags: list[str]) -> None:
    threads = ("--encoder-threads", "2")
    assert ready_request(16, *threads, *flags) == ready_request(16, *threads)
    assert ready_request(16, *threads, "--no-normalize") != ready_request(16, *threads)


def test_another_dimension_is_what_requests_of_ready_embeddings_differ_in() -> None:
    one = ready_request(16)
    assert (
        difference(one, ready_request(8)) == "ready embeddings of 16 dimensions, not ready embeddings of 8 dimensions"
    )
    assert difference(REQUEST, one) == "encoder tests.encoders:TinyEncoder, not ready embeddings of 16 dimensions"
    assert difference(one, ready_request(16, "--no-normalize")) == "normalize True, not False"


@pytest.mark.parametrize("runner", ["Nonsense", "", "no.such.Runner", "os.nope", "os.path", "builtins.print"])
def test_an_unknown_runner_is_named_before_anything_is_written(tmp_path: Path, runner: str) -> None:
    argv = ["--root", str(tmp_path / "root"), "--images", "/p", f"--runner={runner}"]
    with pytest.raises(UsageError, match=f"--runner {runner} "):
        build(command_line.read("build", "", argv, options.BUILD), "publish")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("flags", "loads"), [((), 1), (("--runner", "FnApiRunner"), 2)])
def test_the_encoder_that_is_loaded_embeds_where_no_other_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], loads: int
) -> None:
    load = encoders.load
    loaded: list[str] = []

    def load_and_tell(spec: str, *, device: str = "auto") -> encoders.Encoder:
        loaded.append(spec)
        return load(spec, device=device)

    monkeypatch.setattr(encoders, "load", load_and_tell)
    write_pictures(tmp_path / "pictures", 3)
    argv = ["--root", str(tmp_path / "root"), "--images", str(tmp_path / "pictures"), "--no-progress"]
    argv += ["--encoder", "tests.encoders:TinyEncoder", *flags]
    assert build(command_line.read("build", "", argv, options.BUILD), "publish") == 0
    assert len(loaded) == loads
    assert not open_encoder._lent


def test_several_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [default_threads(workers) for workers in (1, 2, 3, 8, 100)] == [4, 4, 2, 1, 1]


def test_workers_are_of_this_machine_and_of_no_cluster() -> None:
    for workers, runner in ((None, FnApiRunner()), (1, None)):
        runners.share_this_machine(PipelineOptions([]), workers, runner)
    with pytest.raises(UsageError, match="--workers is about processes of this machine"):
        runners.share_this_machine(PipelineOptions([]), 2, FnApiRunner())


def test_several_workers_are_processes_for_beam() -> None:
    shared = PipelineOptions([])
    runners.share_this_machine(shared, 3, None)
    direct = shared.view_as(DirectOptions)
    assert (direct.direct_running_mode, direct.direct_num_workers) == ("multi_processing", 3)
