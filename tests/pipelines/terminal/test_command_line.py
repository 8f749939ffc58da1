"""The words of a command: both spellings, lists by repetition, wrong values, and the nearest flag for a wrong one."""

import argparse
from argparse import Namespace
from collections.abc import Callable

import pytest

from pipelines import serve
from pipelines.terminal import command_line, options
from pipelines.terminal.flags import positive, threads, whole
from pipelines.terminal.jobs import OPTIONS as JOBS
from tests.deploy import commands
from transforms.errors import UsageError


def parse(*argv: str) -> Namespace:
    return command_line.parse("build", "manual", argv, options.BUILD)


def actions(command: str = "build") -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    for group in commands.groups(command):
        group.add_to(parser)
    return parser._actions


def flags(command: str = "build") -> list[str]:
    return [flag for action in actions(command) for flag in action.option_strings]


@pytest.mark.parametrize("flag", ["--index-key", "--index_key"])
def test_a_flag_is_spelled_with_dashes_or_underscores(flag: str) -> None:
    assert parse(flag, "Flat").index_key == "Flat"
    assert parse(f"{flag}=Flat").index_key == "Flat"


@pytest.mark.parametrize("command", sorted({*JOBS, "search", "inspect", "verify", "gc", "rollback", "plan", "demo"}))
def test_every_flag_has_both_spellings_but_for_one_that_beam_has(command: str) -> None:
    known = flags(command)
    assert len(known) == len(set(known))
    for flag in known:
        if flag != "-k" and not (command == "reindex" and flag == "--dry-run"):
            assert {flag, f"--{flag[2:].replace('-', '_')}", f"--{flag[2:].replace('_', '-')}"} <= set(known)


@pytest.mark.parametrize("command", ["build", "reindex", "search", "plan"])
def test_no_flag_is_required_since_beam_would_then_refuse_every_other_pipeline(command: str) -> None:
    assert [action.option_strings for action in actions(command) if action.required and action.option_strings] == []


def test_lists_grow_by_repetition() -> None:
    asked = parse("--images", "a", "--images=b", "--csv", "c.csv", "--text-column", "t")
    assert asked.images == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("--rot", "--root"),
        ("--image", "--images"),
        ("--text-colum=t", "--text-column"),
        ("--text_colum=t", "--text-column"),
        ("--max-reject-rate", "--max-reject-ratio"),
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
    assert parse("--worker-memory", text).worker_memory == expected


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


def test_a_word_that_nobody_takes_is_named() -> None:
    with pytest.raises(UsageError, match="'photos' is not expected here: every source has its flag"):
        parse("photos")
    with pytest.raises(UsageError, match=r"'photos' is not expected here$"):
        command_line.parse("inspect", "", ["photos"], (options.ROOT,))


def test_a_flag_of_beam_is_unknown_where_no_pipeline_runs() -> None:
    with pytest.raises(UsageError, match="unknown flag --runner"):
        command_line.parse("inspect", "", ["--root", "r", "--runner", "x"], (options.ROOT,))


@pytest.mark.parametrize(
    "words",
    [
        ("--text-column", "name", "--text-column", "description"),
        ("--text-column=name", "--text_column", "description"),
        ("--root", "a", "--seed", "1", "--root=a"),
        ("--metric-type", "ip", "--metric_type", "l2"),
    ],
)
def test_a_flag_that_takes_one_value_is_refused_when_it_is_given_twice(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"^--(text-column|root|metric-type) is given twice, and takes one value"):
        parse(*words)


def test_a_short_flag_is_refused_twice_also_where_its_value_is_not_set_apart() -> None:
    with pytest.raises(UsageError, match=r"^-k is given twice"):
        command_line.parse("search", "manual", ["words", "-k5", "-k", "6"], commands.groups("search"))


def test_flags_that_take_several_and_switches_may_be_repeated() -> None:
    assert parse("--csv", "a", "--csv", "b", "--no-progress", "--no-progress").csv == ["a", "b"]


@pytest.mark.parametrize("read", [positive, threads, whole, serve._port])
@pytest.mark.parametrize("text", ["٣", "²", "1_0", ""])
def test_numbers_are_written_in_ascii_digits(read: Callable[[str], int], text: str) -> None:
    assert read("3") == 3
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)
