"""Files of options: they say what flags say, the command line goes first, and a mistake is named by its line."""

import contextlib
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines import build, reindex
from pipelines.cli import COMMANDS
from pipelines.running.start import read
from pipelines.terminal import command_line, options
from pipelines.terminal.command_line import CommandLine
from pipelines.terminal.config import reader
from tests.deploy import commands
from transforms.errors import UsageError


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(text: str, *argv: str, job: str = "build") -> CommandLine:
    """What a command reads of a file in the current folder, and of words."""
    Path("pixdex.yaml").write_text(text)
    return command_line.read(job, "", ["--config", "pixdex.yaml", *argv], commands.groups(job))


def refusal(text: str, *argv: str, job: str = "build") -> str:
    with pytest.raises(UsageError) as caught:
        line(text, *argv, job=job)
    return str(caught.value)


# --- what it says ---


def test_a_file_says_what_flags_say(at: Path) -> None:
    text = "root: ./shop\ncsv: [a.csv, 'b c.csv']\nimage-column: image\nmax_index_memory: 2G\nseed: -3\n"
    text += "no-progress: true\n"
    words = ["--root", "./shop", "--csv", "a.csv", "--csv", "b c.csv", "--image-column", "image"]
    words += ["--max-index-memory", "2G", "--seed", "-3", "--no-progress"]
    by_flags = command_line.read("build", "", words, options.BUILD)
    by_file = line(text)
    assert by_file.options == by_flags.options and not by_file.others
    # What Beam reads, whose classes have these flags too, is the same again.
    assert command_line.read("build", "", by_file.words, options.BUILD).options == by_flags.options


def test_the_command_line_goes_first_and_as_a_whole(at: Path) -> None:
    text = "root: a\ncsv: [a.csv, b.csv]\nseed: 1\nbeam: {runner: FlinkRunner, parallelism: 2}\n"
    read = line(text, "--csv=c.csv", "--seed", "2", "--runner", "PrismRunner")
    assert (read.options.root, read.options.csv, read.options.seed) == ("a", ["c.csv"], 2)
    assert sorted(read.others) == ["--parallelism=2", "--runner", "PrismRunner"]


def test_a_list_is_one_value_each_and_a_value_alone_is_a_list_of_one(at: Path) -> None:
    assert line("images:\n- a\n- b\n").options.images == ["a", "b"]
    assert line("images: a\n").options.images == ["a"]
    assert line("images: []\n").options.images is None


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        *[
            (f"no-normalize: {word}", word in ("true", "yes", "on"))
            for word in ("true", "false", "yes", "no", "on", "off")
        ],
        ("normalize: false", True),
        ("normalize: true", False),
        ("no_normalize: True", True),
    ],
)
def test_a_switch_is_true_or_false_and_may_be_said_the_other_way_round(at: Path, text: str, kept: bool) -> None:
    assert line(text).options.no_normalize is kept


@pytest.mark.parametrize(
    ("on", "flag"),
    [
        ("no-normalize", "--normalize"),
        ("no-report", "--report"),
        ("allow-private-addresses", "--no_allow_private_addresses"),
        ("abandon-plan", "--no-abandon-plan"),
    ],
)
def test_a_flag_turns_off_what_a_file_turns_on(at: Path, on: str, flag: str) -> None:
    name = on.replace("-", "_")
    assert getattr(line(f"{on}: true\n").options, name) is True
    read = line(f"{on}: true\n", flag)
    assert getattr(read.options, name) is False and not read.others
    assert f"--{on}" not in read.given  # so that --print-config does not turn it on again
    assert getattr(line(f"{on}: true\n", flag, f"--{on}").options, name) is True


def test_how_progress_is_shown_is_what_the_command_line_says(at: Path) -> None:
    options = line("no-progress: true\n", "--progress", "bar").options
    assert (options.progress, options.no_progress) == ("bar", False)
    options = line("progress: bar\n", "--no-progress").options
    assert (options.progress, options.no_progress) == (None, True)


def test_a_flag_whose_value_may_be_left_out_is_true_without_one(at: Path) -> None:
    def retried(text: str) -> object:
        return line(text, job="reindex").options.retry_rejects

    assert retried("retry-rejects: true") == ["all"]
    assert retried("retry-rejects: [timeout, crash]") == ["timeout", "crash"]
    assert retried("retry-rejects: false") is None


def test_values_are_the_text_that_stands_there(at: Path) -> None:
    """YAML would make False, a date, 90 seconds or 8 of these."""
    for text in ("no", "2026-01-02", "1:30", "010", "1e3", "~/photos", "0x1F"):
        assert line(f"image-column: {text}").options.image_column == text


@pytest.mark.parametrize("text", ["[red shoes, blue]", "'red shoes'", "['-5 degrees', x]"])
def test_bare_words_stand_below_their_name(at: Path, text: str) -> None:
    read = line(f"query: {text}\nk: 3\n", "--nprobe", "8", job="search")
    assert read.options.query in (["red shoes", "blue"], ["red shoes"], ["-5 degrees", "x"])
    assert (read.options.k, read.options.nprobe) == (3, 8)
    assert line(f"query: {text}", "a cat", job="search").options.query == ["a cat"]


def test_one_file_serves_all_commands(at: Path) -> None:
    """What only builds and nights know is passed over by others; a section is read by its command."""
    text = (
        "root: ./shop\nimages: pictures\nencoder: demo\ndevice: cpu\n"
        "build: {seed: 5}\nsearch: {k: 20, device: cuda}\nbatch_search:\n  k: 50\nbeam: {direct_num_workers: 2}\n"
    )
    assert (line(text).options.seed, line(text).others) == (5, ("--direct_num_workers=2",))
    found = line(text, job="search")
    assert (found.options.root, found.options.k, found.options.device) == ("./shop", 20, "cuda")
    assert line(text, job="batch-search").options.k == 50
    assert line(text, job="gc").options.root == "./shop"
    assert line(text, job="reindex").options.root == "./shop"


def test_jobs_of_a_build_read_its_section_unless_they_have_their_own(at: Path) -> None:
    text = "seed: 1\nbuild:\n  seed: 2\n  csv: a\ntrain:\n  seed: 3\n"
    assert [line(text, job=job).options.seed for job in ("build", "embed", "train")] == [2, 2, 3]
    assert line(text, job="train").options.csv == ["a"]


def test_beams_flags_stand_in_their_section(at: Path) -> None:
    text = "beam:\n  runner: FlinkRunner\n  experiments: [a, b=c]\n  streaming: true\n  no-auth: false\n"
    text += "  job_name: 'true'\n"
    assert line(text).others == (
        "--runner=FlinkRunner", "--experiments=a", "--experiments=b=c", "--streaming", "--job_name=true",
    )  # fmt: skip


def test_a_command_without_a_graph_leaves_beams_section_alone(at: Path) -> None:
    Path("pixdex.yaml").write_text("root: r\nbeam: {runner: FlinkRunner}\n")
    assert command_line.parse("gc", "", ["--config", "pixdex.yaml"], commands.groups("gc")).root == "r"


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "build:\nsearch: {}\n"])
def test_a_file_may_say_nothing(at: Path, text: str) -> None:
    assert line(text, "--seed", "4").options.seed == 4


def test_exclusive_and_required_flags_are_looked_at_together(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pixdex.yaml").write_text("image-column: image\n")
    assert build.main(["--config", "pixdex.yaml", "--root", "r", "--images", "x"]) == 2
    assert "--image-column names a column" in capsys.readouterr().err
    Path("pixdex.yaml").write_text("seed: 3\n")
    assert build.main(["--config", "pixdex.yaml", "--images", "x"]) == 2
    assert "--root is missing" in capsys.readouterr().err


# --- what is wrong ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("root: a\nimage-colum: x\n", "pixdex.yaml:2: unknown option image-colum, did you mean image-column?"),
        ("image_colum: x\n", "pixdex.yaml:1: unknown option image_colum, did you mean image-column?"),
        ("--seed: 3\n", "pixdex.yaml:1: unknown option --seed, did you mean seed?"),
        ("serach:\n  k: 3\n", "pixdex.yaml:1: unknown option serach, did you mean search?"),
        ("beem:\n  runner: x\n", "pixdex.yaml:1: unknown option beem, did you mean beam?"),
        ("normalise: true\n", "pixdex.yaml:1: unknown option normalise, did you mean normalize?"),
        ("# a\n\nseed: many\n", "pixdex.yaml:3: seed: 'many' is not a whole number of 64 bits; see pixdex build"),
        ("max-index-memory: 1X\n", "pixdex.yaml:1: max-index-memory: '1X' is not a size such as 16G"),
        ("image-fit: krop\n", "pixdex.yaml:1: image-fit: 'krop' is none of crop, pad, did you mean crop?"),
        ("modality: [image, txt]\n", "pixdex.yaml:1: modality: 'txt' is none of image, text, did you mean text?"),
        ("root: [a, b]\n", "pixdex.yaml:1: root takes one value, and is given a list"),
        ("root:\n", "pixdex.yaml:1: root has no value"),
        ("root: {a: b}\n", "pixdex.yaml:1: root holds a section"),
        ("csv: [a, [b]]\n", "pixdex.yaml:1: csv takes values, and no list"),
        ("csv:\n- a\n-\n", "pixdex.yaml:3: csv has no value"),
        ("no-normalize: maybe\n", "pixdex.yaml:1: no-normalize is either true or false"),
        ("no-normalize: 'true'\n", "pixdex.yaml:1: no-normalize is either true or false"),
        ("no-normalize: 1\n", "pixdex.yaml:1: no-normalize is either true or false"),
        ("seed: 1\nroot: r\nseed: 2\n", "pixdex.yaml:3: seed is given twice: line 1 has it, too"),
        ("a: 1\nimage-column: x\nimage_column: y\n", "pixdex.yaml:1: unknown option a"),
        ("image-column: x\nimage_column: y\n", "pixdex.yaml:2: image_column is given twice: line 1 has it, too"),
        ("normalize: false\nno-normalize: true\n", "pixdex.yaml:2: no-normalize is given twice: pixdex.yaml:1 says n"),
        ("build: 3\n", "pixdex.yaml:1: build is a section: write its options below it"),
        ("build:\n  sed: 3\n", "pixdex.yaml:2: unknown option sed, did you mean seed?"),
        ("build:\n  k: 3\n", "pixdex.yaml:2: unknown option k"),
        ("search:\n  k: 1\n  k: 2\n", "pixdex.yaml:3: k is given twice"),
        ("- root\n", "pixdex.yaml:1: write options a line each, as root: ./photos"),
        ("root\n", "pixdex.yaml:1: write options a line each, as root: ./photos"),
        ("[a]: b\n", "pixdex.yaml:1: a key is the name of a flag without its dashes"),
        ("root: a: b\n", "pixdex.yaml:1: this is no YAML: mapping values are not allowed"),
        ("seed: 1\nroot: [\n", "pixdex.yaml:3: this is no YAML: "),
        ("\tseed: 1\n", "pixdex.yaml:1: this is no YAML: "),
        ("seed: *a\n", "pixdex.yaml:1: this is no YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "pixdex.yaml:2: this is no YAML: but found another document"),
        ("<<: {seed: 1}\n", "pixdex.yaml:1: a key is the name of a flag without its dashes"),
        ("root: !!python/object/apply:os.system [ls]\n", "pixdex.yaml:1: root takes one value"),
        ("csv: !!python/object/apply:os.system [ls]\n", "pixdex.yaml:1: csv has a tag: write its values alone"),
        ("beam: {x: !y [ls]}\n", "pixdex.yaml:1: x has a tag: write its values alone"),
        ("root: !!python/name:os.system ''\n", "pixdex.yaml:1: root has a tag: write the value alone"),
        ('root: "a\\0b"\n', "pixdex.yaml:1: root holds the character 0"),
        ("config: other.yaml\n", "pixdex.yaml:1: unknown option config"),
        ("print-config: true\n", "pixdex.yaml:1: unknown option print-config"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_line(at: Path, text: str, said: str) -> None:
    assert refusal(text).startswith(said)


def test_an_option_of_another_command_is_told_where_it_belongs(at: Path) -> None:
    assert refusal("k: 3\n") == (
        "pixdex.yaml:1: unknown option k: pixdex build has none; what only another command has stands in a section of "
        "its name"
    )


def test_a_flag_that_beam_does_not_have_is_named_by_its_line(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pixdex.yaml").write_text("root: r\nimages: x\nbeam:\n  streaming: true\n  runer: FlinkRunner\n")
    assert build.main(["--config", "pixdex.yaml"]) == 2
    assert capsys.readouterr().err == "pixdex: pixdex.yaml:5: unknown option runer: Beam has none of this name\n"


@pytest.mark.parametrize(
    ("file", "why"),
    [("nowhere.yaml", "No such file or directory"), (".", "Is a directory"), ("~nobody-there/x", "home directory")],
)
def test_a_file_that_is_not_there_is_said(at: Path, file: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--config", file]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pixdex: --config {file} cannot be read (") and why in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe\x00\x01\x02", "pixdex.yaml is no YAML: "),
        (b"root: \x00\n", "pixdex.yaml is no YAML: "),
        (b"root: caf\xe9\n", "pixdex.yaml is no YAML: "),
        (b"[" * 5_000, "pixdex.yaml is nested too deeply"),
        (b"#" * (reader.LONGEST + 1), "--config pixdex.yaml has more than 1 MiB"),
    ],
    ids=["letters", "zero", "latin-1", "deep", "large"],
)
def test_what_is_no_text_is_refused_in_one_line(at: Path, data: bytes, said: str) -> None:
    Path("pixdex.yaml").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        command_line.read("build", "", ["--config", "pixdex.yaml"], options.BUILD)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_a_large_file_is_read_at_the_speed_of_libyaml(at: Path) -> None:
    text = "csv:\n" + "- a.csv\n" * (1 << 15)
    Path("pixdex.yaml").write_text(text)
    flags = reader.names_of(commands.groups("build"))
    start = time.process_time()
    yaml.compose(text, Loader=yaml.SafeLoader)
    middle = time.process_time()
    found = reader.read("pixdex.yaml", "build", flags, known_elsewhere=frozenset())
    assert time.process_time() - middle < 0.7 * (middle - start)
    assert len(found.flags["--csv"].values) == 1 << 15


def test_config_is_given_once(at: Path) -> None:
    with pytest.raises(UsageError, match="--config is given twice"):
        line("seed: 1", "--config", "other.yaml")


# --- secrets ---


@pytest.mark.parametrize(
    "text",
    [
        "aws_secret_access_key: hunter2\n",
        "password: hunter2\n",
        "api-key: hunter2\n",
        "search:\n  auth_token: hunter2\n",
        "build:\n  storage_account_key: hunter2\n",
        "beam:\n  s3_secret_access_key: hunter2\n",
        "beam:\n  s3_session_token: [hunter2]\n",
        "root: s3://me:hunter2@bucket/x\n",
        "csv: [a.csv, 'https://host/b.csv?X-Amz-Signature=hunter2']\n",
        "beam:\n  temp_location: https://x/y?sig=hunter2\n",
    ],
)
def test_a_secret_is_refused_with_the_way_out_and_never_repeated(at: Path, text: str) -> None:
    said = refusal(text, job="build")
    assert said.startswith("pixdex.yaml:") and "in the environment" in said and "hunter2" not in said


def test_a_key_of_a_table_or_an_index_is_no_secret(at: Path) -> None:
    assert line("key-column: sku\nindex-key: Flat\nkey-pattern: '(?P<a>x)'\n").options.key_column == "sku"
    assert line("beam: {dataflow_kms_key: projects/p/k}\n").others == ("--dataflow_kms_key=projects/p/k",)


# --- all commands, anything ---


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_a_file_and_no_flag_is_called_like_a_section(command: str) -> None:
    names = {reader.key_of(name) for name in reader.names_of(commands.groups(command))}
    assert not names & {*COMMANDS, reader.BEAM}
    assert "config" not in names


def test_sections_are_the_commands_that_there_are() -> None:
    assert set(reader.commands()) == set(COMMANDS)


_WORDS = st.sampled_from(
    ["root", "seed", "csv", "build", "beam", "search", "no-normalize", "normalize", ":", "-", "[", "]", "{", "}", "!!",
     "&a", "*a", "\n", "\n  ", " ", "true",
     "3", "x", '"', "'", "#", "|", ">", "?", ",", "<<", "%", "---", "\t", "é", "\x07"]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=25).map("".join))
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    with contextlib.suppress(UsageError):
        read("build", "", ["--config", str(file)], build.OPTIONS)
    try:
        command_line.read("reindex", "", ["--config", str(file)], reindex.OPTIONS)
    except UsageError as error:
        assert str(error).startswith(str(file)) and "Traceback" not in str(error)
