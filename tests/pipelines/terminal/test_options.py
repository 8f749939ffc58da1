"""Options: both spellings, lists by repetition, the nearest flag for a wrong one, and Beam's own flags."""

import argparse
import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from pipelines.running.launch import OPTIONS
from pipelines.terminal import options
from transforms.errors import UsageError
from transforms.records import IndexSettings, Source


def parse(*argv: str) -> tuple[argparse.Namespace, list[str]]:
    return options.parse("build", "manual", argv, OPTIONS)


def flags() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    for group in OPTIONS:
        group._add_argparse_args(parser)
    return [flag for action in parser._actions for flag in action.option_strings]


@pytest.mark.parametrize("flag", ["--index-key", "--index_key"])
def test_a_flag_is_spelled_with_dashes_or_underscores(flag: str) -> None:
    assert parse(flag, "Flat")[0].index_key == "Flat"
    assert parse(f"{flag}=Flat")[0].index_key == "Flat"


def test_every_flag_has_both_spellings() -> None:
    for flag in flags():
        assert flag.startswith("--")
        name = flag[2:]
        assert "--" + name.replace("-", "_") in flags() and "--" + name.replace("_", "-") in flags()


def test_no_flag_is_required_since_beam_would_then_refuse_every_other_pipeline() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    for group in OPTIONS:
        group._add_argparse_args(parser)
    assert [action.option_strings for action in parser._actions if action.required] == []


def test_options_are_direct_subclasses_so_that_beam_shows_them() -> None:
    for group in OPTIONS:
        assert group.__bases__ == (PipelineOptions,)


def test_each_flag_is_declared_once() -> None:
    assert len(flags()) == len(set(flags()))


def test_an_unrelated_pipeline_of_the_process_reads_its_own_options_still() -> None:
    assert PipelineOptions(["--direct_num_workers", "3"]).view_as(DirectOptions).direct_num_workers == 3
    assert PipelineOptions([]).get_all_options()["root"] is None


def test_importing_the_jobs_leaves_pipeline_options_alone() -> None:
    code = (
        "import pipelines.build, pipelines.search, pipelines.inspect\n"
        "from apache_beam.options.pipeline_options import PipelineOptions\n"
        "PipelineOptions(['--runner', 'DirectRunner', '--job_name', 'other']).get_all_options()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lists_grow_by_repetition() -> None:
    own, _ = parse("--images", "a", "--images=b", "--csv", "c.csv", "--text-column", "t")
    assert own.images == ["a", "b"]


def test_flags_of_beam_pass_through() -> None:
    _, beam = parse("--root", "r", "--direct_num_workers", "2", "--runner=DirectRunner", "--experiments=x")
    assert beam == ["--direct_num_workers", "2", "--runner=DirectRunner", "--experiments=x"]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("--rot", "--root"),
        ("--image", "--images"),
        ("--text-colum=t", "--text-column"),
        ("--max-reject-rate", "--max-reject-ratio"),
        ("--direct_num_worker", "--direct_num_workers"),
    ],
)
def test_an_unknown_flag_names_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown flag {wrong.partition('=')[0]}, did you mean {nearest}\?"):
        parse(wrong, "x")


def test_a_flag_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(UsageError, match="unknown flag --zzzzqqqq; see pixdex build --help"):
        parse("--zzzzqqqq")


def test_a_shortened_flag_is_no_flag() -> None:
    with pytest.raises(UsageError, match="unknown flag --enc"):
        parse("--enc", "demo")


@pytest.mark.parametrize("argv", [["--root"], ["--seed", "x"], ["--encoder-batch", "-1"], ["--image-fit", "squash"]])
def test_a_value_that_cannot_be_is_refused_with_its_flag(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=f"{argv[0]}.*see pixdex build --help"):
        parse(*argv)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.5k", 1536), ("16G", 16 << 30), ("16 GB", 16 << 30), ("2GiB", 2 << 30), (" 1T ", 1 << 40)],
)  # fmt: skip
def test_sizes_are_written_as_autofaiss_writes_them(text: str, expected: int) -> None:
    assert parse("--worker-memory", text)[0].worker_memory == expected


@pytest.mark.parametrize("text", ["", "0", "G", "-1", "1X", "1e9", "16 G B", "¹"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--max-index-memory.* is not a size such as 16G"):
        parse(f"--max-index-memory={text}")


@pytest.mark.parametrize("flag", ["--encoder-batch", "--encoder-threads", "--pixel-limit"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "²"])
def test_counts_are_whole_numbers_above_zero(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match="is not a whole number above 0"):
        parse(flag, value)


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "half"])
def test_a_ratio_is_from_zero_to_one(value: str) -> None:
    with pytest.raises(UsageError, match="is not a number from 0 to 1"):
        parse("--max-reject-ratio", value)


def test_sources_are_named_once_in_the_order_of_kinds_and_flags() -> None:
    own, _ = parse("--csv", "/r.csv", "--images", "/b", "--images", "/a", "--images", "/b", "--text-column", "t",
                   "--key-pattern", "(?P<x>.)")  # fmt: skip
    assert options.sources(own) == (
        Source("images", "file:///b", key_pattern="(?P<x>.)"),
        Source("images", "file:///a", key_pattern="(?P<x>.)"),
        Source("csv", "file:///r.csv", text_column="t"),
    )


def test_ready_embeddings_are_sources_of_their_own_kind() -> None:
    own, _ = parse("--vectors", "/b/*.npy", "--vectors", "s3://x/a", "--metadata", "/m", "--metadata", "/n",
                   "--vector-column", "v", "--modality", "text")  # fmt: skip
    assert options.sources(own) == (
        Source("vectors", "file:///b/*.npy", vector_column="v", metadata="file:///m", modality="text"),
        Source("vectors", "s3://x/a", vector_column="v", metadata="file:///n", modality="text"),
    )
    own, _ = parse("--vectors", "/b")
    assert options.sources(own) == (Source("vectors", "file:///b", vector_column="embedding"),)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--vectors", "/v", "--images", "/p"], "--vectors does not go with --images: a root has one encoder"),
        (["--vectors", "/v", "--csv", "/r", "--text-column", "t"], "--vectors does not go with --csv"),
        (["--vectors", "/v", "--encoder", "demo"], "--encoder demo has nothing to encode"),
        (["--images", "/p", "--vector-column", "v"], "--vector-column is about ready embeddings: .* --vectors"),
        (["--images", "/p", "--metadata", "/m"], "--metadata is about ready embeddings"),
        (["--images", "/p", "--modality", "image"], "--modality is about ready embeddings"),
        (["--vectors", "/v", "--vectors", "/w", "--metadata", "/m"], "given 1 times, --vectors 2 times: give one for"),
    ],
)
def test_options_of_ready_embeddings_that_do_not_go_together_are_refused(argv: list[str], words: str) -> None:
    own, _ = parse(*argv)
    with pytest.raises(UsageError, match=words):
        options.sources(own)


def test_index_settings_are_those_of_the_flags() -> None:
    own, _ = parse("--index-key", "IVF4,Flat", "--metric-type", "l2", "--max-index-memory", "1G")
    assert options.index_settings(own) == IndexSettings("IVF4,Flat", "l2", 1 << 30)
