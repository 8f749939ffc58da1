"""The Cloud Scheduler recipe: what it has Dataflow run, and what it asks of gcloud, which is a script here."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import commands, manifests, versions

SCHEDULER = manifests.DEPLOY / "scheduler"
SETTINGS = {
    "PROJECT": "some-project",
    "REGION": "europe-west1",
    "BUCKET": "some-bucket",
    "IMAGE": f"some-registry/pixdex:{versions.of_pixdex()}",
    "ACCOUNT": "pixdex@some-project.example",
}


class Gcloud:
    """A gcloud that notes what it is asked, and the body that it is given; it knows a schedule or does not."""

    def __init__(self, folder: Path, *, knows: bool) -> None:
        self.folder = folder
        script = folder / "gcloud"
        script.write_text(
            f"#!/bin/sh\nfor word; do echo \"$word\" >>'{folder}/asked'; case $word in\n"
            f"--message-body-from-file=*) cp \"${{word#*=}}\" '{folder}/body';;\n"
            f"describe) exit {0 if knows else 1};; esac; done\n"
        )
        script.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()

    @property
    def launch(self) -> dict[str, Any]:
        body = json.loads((self.folder / "body").read_text())
        assert set(body) == {"launchParameter"}
        return dict(body["launchParameter"])


def schedule(folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCHEDULER / "schedule.sh")],
        env={"PATH": f"{folder}:{os.environ['PATH']}", **settings},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def gcloud(tmp_path: Path) -> Gcloud:
    new = Gcloud(tmp_path, knows=False)
    scheduled = schedule(tmp_path, SETTINGS)
    assert scheduled.returncode == 0, scheduled.stderr
    return new


def command_of(launch: dict[str, Any]) -> list[str]:
    """The command that the template's own launcher makes of the parameters."""
    place = importlib.util.spec_from_file_location("template_launcher", manifests.DEPLOY / "dataflow" / "launch.py")
    assert place is not None and place.loader is not None
    launcher = importlib.util.module_from_spec(place)
    place.loader.exec_module(launcher)
    return ["pixdex", *launcher.words_of([f"--{name}={value}" for name, value in launch["parameters"].items()])]


def test_every_night_runs_a_command_that_pixdex_accepts(gcloud: Gcloud) -> None:
    commands.parsed(command_of(gcloud.launch))


def test_a_parameter_of_another_job_would_be_found(gcloud: Gcloud) -> None:
    launch = gcloud.launch
    launch["parameters"]["images"] = "gs://some-bucket/pictures"  # of a build: a root knows its sources
    with pytest.raises(Exception, match=r"images is a parameter of build, .*: leave it out of job reindex"):
        commands.parsed(command_of(launch))


def test_nothing_is_left_to_fill_in(gcloud: Gcloud) -> None:
    assert "@" not in json.dumps(gcloud.launch)


def test_dataflow_knows_every_field_of_the_launch(gcloud: Gcloud) -> None:
    dataflow = pytest.importorskip("google.cloud.dataflow_v1beta3", reason="needs pixdex[gcp]")
    dataflow.LaunchFlexTemplateRequest.from_json(json.dumps({"launchParameter": gcloud.launch}))


def test_parameters_are_those_of_the_template(gcloud: Gcloud) -> None:
    metadata = json.loads((manifests.DEPLOY / "dataflow" / "metadata.json").read_text())
    known = {each["name"]: each for each in metadata["parameters"]}
    given = gcloud.launch["parameters"]
    assert {name for name, each in known.items() if not each.get("isOptional")} <= set(given) <= set(known)
    for name, value in given.items():
        for pattern in known[name].get("regexes", []):
            assert re.fullmatch(pattern, value), name


def test_the_template_is_the_one_that_its_script_makes(gcloud: Gcloud) -> None:
    script = (manifests.DEPLOY / "dataflow" / "template.sh").read_text()
    assert f'"{gcloud.launch["containerSpecGcsPath"].replace(SETTINGS["BUCKET"], "$BUCKET")}"' in script


def test_nights_never_overlap_since_a_name_is_that_of_one_running_job(gcloud: Gcloud) -> None:
    assert gcloud.launch["jobName"] == "pixdex-nightly"


def test_the_schedule_is_that_of_the_cron_job(gcloud: Gcloud) -> None:
    cron = manifests.one("CronJob").content["spec"]
    assert {f"--schedule={cron['schedule']}", f"--time-zone={cron['timeZone']}"} <= set(gcloud.asked)


def test_dataflow_is_asked_as_the_account(gcloud: Gcloud) -> None:
    assert {
        "--uri=https://dataflow.googleapis.com/v1b3/projects/some-project/locations/europe-west1/flexTemplates:launch",
        "--http-method=POST",
        "--headers=Content-Type=application/json",
        f"--oauth-service-account-email={SETTINGS['ACCOUNT']}",
    } <= set(gcloud.asked)
    assert "create" in gcloud.asked and "update" not in gcloud.asked


def test_a_schedule_that_is_there_is_brought_up_to_date(tmp_path: Path) -> None:
    known = Gcloud(tmp_path, knows=True)
    assert schedule(tmp_path, SETTINGS).returncode == 0
    assert "update" in known.asked and "create" not in known.asked
    assert "--update-headers=Content-Type=application/json" in known.asked


@pytest.mark.parametrize("name", SETTINGS)
def test_a_missing_setting_is_named(tmp_path: Path, name: str) -> None:
    Gcloud(tmp_path, knows=False)
    said = schedule(tmp_path, {key: value for key, value in SETTINGS.items() if key != name})
    assert said.returncode == 2
    assert said.stderr.startswith(f"schedule.sh: {name} is missing") and said.stderr.count("\n") == 1


def test_a_missing_gcloud_is_named(tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        where = subprocess.run(["sh", "-c", f"command -v {shlex.quote(tool)}"], capture_output=True, check=True)
        (tmp_path / tool).symlink_to(where.stdout.decode().strip())
    said = subprocess.run(
        [str(tmp_path / "bash"), str(SCHEDULER / "schedule.sh")],
        env={"PATH": str(tmp_path), **SETTINGS},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (said.returncode, said.stderr.partition(":")[0]) == (1, "schedule.sh")
    assert "gcloud is missing" in said.stderr
