"""The Airflow DAG: what it runs, read without Airflow; and, slow, what a real Airflow makes of it.

    python -m pytest -m slow tests/deploy/test_airflow.py

installs the pinned Airflow (450 MB, two minutes) into ~/.cache/pixdex, once.
"""

import ast
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy import commands, manifests, versions

AIRFLOW = manifests.DEPLOY / "airflow"
DAG = AIRFLOW / "pixdex_nightly.py"
PROBE = Path(__file__).with_name("airflow_probe.py")


def commands_in(source: str) -> dict[str, list[str]]:
    """Returns the commands of pixdex that a Python file holds as constants."""
    constants = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                value = ast.literal_eval(statement.value)
            except ValueError:
                continue
            if isinstance(value, tuple) and value[0] == "pixdex":
                constants[statement.targets[0].id] = [str(word) for word in value]
    return constants


COMMANDS = commands_in(DAG.read_text())


def of_the_cron_job() -> manifests.Container:
    (container,) = manifests.containers(manifests.one("CronJob"))
    return container


def test_the_dag_has_a_command_for_every_night_and_one_that_reports() -> None:
    assert set(COMMANDS) == {"NIGHTLY", "REPORT"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_one_that_pixdex_accepts(name: str) -> None:
    commands.parsed(COMMANDS[name])


def test_the_dag_does_what_the_cron_job_does() -> None:
    assert COMMANDS["NIGHTLY"] == of_the_cron_job().command


def test_the_dag_reports_on_the_root_that_it_writes() -> None:
    assert commands.parsed(COMMANDS["REPORT"]).options.root == commands.parsed(COMMANDS["NIGHTLY"]).options.root


def test_its_pods_have_the_name_that_the_job_server_lets_in() -> None:
    template = of_the_cron_job().manifest.content["spec"]["jobTemplate"]["spec"]["template"]
    (name,) = template["metadata"]["labels"].items()
    assert f'labels={{"{name[0]}": "{name[1]}"}}' in DAG.read_text()


def test_an_unknown_flag_in_the_dag_would_be_found() -> None:
    wrong = commands_in(DAG.read_text().replace("--worker-memory=", "--worker-memry="))
    with pytest.raises(Exception, match="unknown flag --worker-memry, did you mean --worker-memory"):
        commands.parsed(wrong["NIGHTLY"])


def test_airflow_and_its_provider_are_pinned() -> None:
    lines = [line for line in (AIRFLOW / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines)


@pytest.fixture(scope="module")
def python_with_airflow() -> Path:
    """The Python of an environment below the user's cache, named for what is installed in it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixdex"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = cache / f"airflow-{versions.read()['AIRFLOW']}-{python}"
    done = home / "installed.txt"
    requirements = (AIRFLOW / "requirements.txt").read_text()
    if not done.exists() or done.read_text() != requirements:
        venv.create(home, clear=True, with_pip=True)
        install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", AIRFLOW / "requirements.txt"], check=True)
        done.write_text(requirements)
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def seen_by_airflow(python_with_airflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Airflow says of the folder. It wants to know of some cluster before it makes a pod; nothing is there."""
    home = tmp_path_factory.mktemp("airflow")
    cluster = home / "kubeconfig"
    cluster.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],"
        " clusters: [{name: c, cluster: {server: 'http://localhost:1'}}], users: [{name: u, user: {}}]}"
    )
    said = subprocess.run(
        [python_with_airflow, PROBE, AIRFLOW],
        env={
            "AIRFLOW_HOME": str(home),
            "HOME": str(home),
            "KUBECONFIG": str(cluster),
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=home,
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.splitlines()[-1])


@pytest.mark.slow
def test_airflow_imports_the_dag(seen_by_airflow: Any) -> None:
    assert seen_by_airflow["errors"] == {}
    assert set(seen_by_airflow["dags"]) == {"pixdex_nightly"}


@pytest.mark.slow
def test_nights_never_overlap_and_missed_ones_are_not_made_up_for(seen_by_airflow: Any) -> None:
    dag = seen_by_airflow["dags"]["pixdex_nightly"]
    assert (dag["schedule"], dag["max_active_runs"], dag["catchup"]) == (
        of_the_cron_job().manifest.content["spec"]["schedule"],
        1,
        False,
    )


@pytest.mark.slow
def test_the_report_comes_after_the_night_and_both_are_tried_again(seen_by_airflow: Any) -> None:
    tasks = seen_by_airflow["dags"]["pixdex_nightly"]["tasks"]
    assert {name: each["downstream"] for name, each in tasks.items()} == {"nightly": ["report"], "report": []}
    assert all(each["retries"] > 0 for each in tasks.values())


@pytest.mark.slow
@pytest.mark.parametrize(("task", "command"), [("nightly", "NIGHTLY"), ("report", "REPORT")])
def test_a_task_starts_the_pod_that_the_cron_job_starts(seen_by_airflow: Any, task: str, command: str) -> None:
    pod = seen_by_airflow["dags"]["pixdex_nightly"]["tasks"][task]["pod"]
    kubernetes_validate.validate(pod, versions.read()["KUBERNETES"], strict=True)
    (container,) = pod["spec"]["containers"]
    of_the_task = manifests.Container(manifests.one("CronJob"), pod["spec"], container)
    expected = of_the_cron_job()
    assert of_the_task.command == COMMANDS[command]
    assert (of_the_task.image, of_the_task.security) == (expected.image, expected.security)
    assert (pod["metadata"]["namespace"], pod["spec"]["automountServiceAccountToken"]) == ("pixdex", False)
    for field in ("resources", "volumeMounts"):
        assert container[field] == expected.content[field]
    assert pod["spec"]["volumes"] == expected.pod["volumes"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "pixdex-submitter"
