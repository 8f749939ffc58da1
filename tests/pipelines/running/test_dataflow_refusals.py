"""What of a job on Dataflow is refused in a line, before anything is written or submitted."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.jobs import JOBS
from tests.pipelines.running.dataflow_words import FLAGS, argv

pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", reason="needs pixdex[gcp]", exc_type=ImportError)


def refusal(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> str:
    """The one line that a refused build says."""
    capsys.readouterr()
    assert JOBS["build"](words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def without(words: Sequence[str], flag: str) -> list[str]:
    place = list(words).index(flag)
    return [*words[:place], *words[place + 2 :]]


@pytest.mark.parametrize("flag", ["--project", "--region", "--temp_location", "--sdk_container_image"])
def test_a_missing_flag_is_named(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no gcloud, which would know a region
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)
    assert refusal(capsys, without(argv("gs://b"), flag)).startswith(f"pixdex: {flag} is missing: ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--root", "photos"), "--root photos is on this machine"),
        (("--csv", "/data/rows.csv"), "--csv /data/rows.csv is on this machine"),
        (("--temp_location", "/tmp/x"), "--temp_location /tmp/x is not on Cloud Storage"),
    ],
)
def test_what_only_this_machine_has_is_refused(
    changed: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = argv("gs://b")
    words[words.index(changed[0]) + 1] = changed[1]
    assert said in refusal(capsys, words)


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    assert "needs: pip install 'pixdex[gcp]'" in refusal(capsys, argv("gs://b"))


def test_missing_credentials_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    said = refusal(capsys, argv("gs://b", flags=FLAGS))
    assert said.startswith("pixdex: no credentials for Google Cloud: run 'gcloud auth application-default login'")
