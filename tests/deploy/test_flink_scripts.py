"""What the scripts for Flink and Prism lack is one line that says how to get it."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import versions

FLINK = versions.DEPLOY / "flink"
PINNED = versions.read()


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder that is the whole PATH, with what a shell script cannot do without."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "dirname", "mkdir", "mktemp", "rm", "mv", "tail", "grep", "tar", "cat"):
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


def write_command(folder: Path, name: str, text: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def refused(*command: object, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "PYTHON")}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, encoding="utf-8", env={**environment, **variables}, check=False
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith(("install.sh:", "cluster.py:"))]
    assert said == done.stderr.splitlines()[-1:]
    return said[0]


def pretend_flink(folder: Path) -> None:
    (folder / f"flink-{PINNED['FLINK']}").mkdir(parents=True)


def pretend_jar(folder: Path) -> None:
    minor = PINNED["FLINK"].rpartition(".")[0]
    (folder / f"beam-flink-{minor}-job-server-{PINNED['FLINK_JOB_SERVER']}.jar").touch()


def test_a_missing_pip_is_named(tmp_path: Path, commands: Path) -> None:
    line = refused("bash", FLINK / "install.sh", PATH=str(commands), PIXDEX_FLINK=str(tmp_path), PYTHON="no-python")
    assert "'no-python -m pip' does not run" in line


def test_a_flink_that_cannot_be_downloaded_is_named(tmp_path: Path, commands: Path) -> None:
    write_command(commands, "python3", '[ "$3" = --version ] || { echo "ERROR: no network"; exit 1; }')
    line = refused("bash", FLINK / "install.sh", PATH=str(commands), PIXDEX_FLINK=str(tmp_path))
    assert "no network" in line and "PIP_FIND_LINKS" in line
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize(
    ("maven", "words"),
    [
        (None, "Maven is missing"),
        ("echo 'no Java' ; exit 1", "no Java"),
        ('[ "$1" = --version ] || { echo "[ERROR] no artifact"; exit 1; }', "no artifact"),
    ],
)
def test_a_maven_that_is_missing_or_fails_is_named(
    tmp_path: Path, commands: Path, maven: str | None, words: str
) -> None:
    pretend_flink(tmp_path)
    if maven is not None:
        write_command(commands, "mvn", maven)
    line = refused("bash", FLINK / "install.sh", PATH=str(commands), PIXDEX_FLINK=str(tmp_path))
    assert words in line and ("install" in line or "put a job server's jar" in line)


def test_a_missing_go_is_named(tmp_path: Path, commands: Path) -> None:
    script = versions.DEPLOY / "prism" / "install.sh"
    assert "Go is missing" in refused("bash", script, PATH=str(commands), PIXDEX_PRISM=str(tmp_path))


def start(tmp_path: Path, *words: object, **variables: str) -> str:
    script = FLINK / "cluster.py"
    run = ("--run-dir", tmp_path / "run")
    return refused(sys.executable, script, "start", *run, *words, PIXDEX_FLINK=str(tmp_path), **variables)


def test_a_cluster_needs_flink(tmp_path: Path) -> None:
    assert "install.sh" in start(tmp_path)


def test_a_cluster_needs_a_java_that_suits_it(tmp_path: Path, commands: Path) -> None:
    pretend_flink(tmp_path)
    pretend_jar(tmp_path)
    installed = [path for version in ("17", "11") for path in Path("/usr/lib/jvm").glob(f"*-{version}-*/bin/java")]
    if installed:
        pytest.skip(f"a suitable Java is found anyhow: {installed[0]}")
    write_command(commands, "java", "echo 'openjdk version \"25.0.1\"' >&2")
    line = start(tmp_path, PATH=str(commands))
    assert "is Java 25" in line and "JAVA_HOME" in line


def test_a_port_that_is_taken_is_named(tmp_path: Path, commands: Path) -> None:
    pretend_flink(tmp_path)
    pretend_jar(tmp_path)
    write_command(commands, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        line = start(tmp_path, "--rest-port", port, PATH=str(commands))
    assert f"port {port} is taken" in line and "--rest-port" in line


def test_a_process_that_ends_at_its_start_is_named_with_its_log_and_leaves_nothing(
    tmp_path: Path, commands: Path
) -> None:
    pretend_flink(tmp_path)
    pretend_jar(tmp_path)
    write_command(
        commands,
        "java",
        """case "$*" in
*-version*) echo 'openjdk version "17.0.1"' >&2 ;;
*BashJavaUtils*) echo BASH_JAVA_UTILS_EXEC_RESULT:-Xmx1m; echo BASH_JAVA_UTILS_EXEC_RESULT:-Da=b ;;
*) echo 'Error: no memory' >&2; exit 1 ;;
esac""",
    )
    ports = [word for name in ("rest", "job", "pool", "rpc") for word in (f"--{name}-port", "0")]
    line = start(tmp_path, *ports, PATH=str(commands))
    assert "the JobManager does not start: Error: no memory" in line and "jobmanager.log" in line
    assert not list((tmp_path / "run").glob("*.pid")) and not (tmp_path / "run" / "cluster.json").exists()


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, str(FLINK / "cluster.py"), "stop", "--run-dir", str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_process_with_an_id_that_was_used_before_is_left_alone(tmp_path: Path) -> None:
    """The id of a process that ended may be another's now: when it started tells them apart."""
    cluster = {"flink": "", "java": "", "rest_port": 1, "job_port": 2, "pool_port": 3, "rpc_port": 4, "slots": 1}
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "jobmanager.pid").write_text(f"{other.pid} 1\n")
        command = [sys.executable, str(FLINK / "cluster.py"), "stop", "--run-dir", str(tmp_path)]
        assert subprocess.run(command, check=False).returncode == 0
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("words", [("--task-managers", "2"), ("--slots", "4")])
def test_a_cluster_that_stands_is_not_started_in_another_shape(tmp_path: Path, words: tuple[str, str]) -> None:
    shape = {"flink": "f", "java": "j", "slots": 2, "namespaces": [], "subnet": ""}
    ports = dict.fromkeys(("rest_port", "job_port", "pool_port", "rpc_port"), 1)
    (tmp_path / "cluster.json").write_text(json.dumps(shape | ports))
    said = refused(sys.executable, FLINK / "cluster.py", "start", "--run-dir", tmp_path, *words)
    assert f"started with {words[0]}" in said and "stop" in said
    assert (tmp_path / "cluster.json").exists()
