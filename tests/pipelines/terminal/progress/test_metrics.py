"""Figures for Prometheus: the same names on every runner, and the same figures as in the last line."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines import build, reindex, watch
from pipelines.terminal.progress import metrics
from pipelines.terminal.progress.metrics import NAMES, Metrics
from tests import corpora
from tests.end_to_end.builds import TINY
from tests.transforms.runs.planned import FIRST, embed, plan
from tests.transforms.small_runs import begin, pictures
from transforms.errors import UsageError
from transforms.runs.progress import RunProgress
from transforms.storage.addresses import without_credentials

Capture = pytest.CaptureFixture[str]
Samples = dict[tuple[str, tuple[str, ...]], float]


def parsed(text: str) -> Samples:
    """Values by name and the values of the labels, in the order of their names, but for the root's."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type == ("counter" if family.name + "_total" in {f"pixdex_{name}" for name in NAMES} else "gauge")
        for sample in family.samples:
            root, *labels = [sample.labels[name] for name in ("root", *sorted(set(sample.labels) - {"root"}))]
            assert root.startswith(("file://", "memory://", "https://"))
            found[sample.name.removeprefix("pixdex_"), tuple(labels)] = sample.value
    return found


def read(file: Path) -> Samples:
    return parsed(file.read_text())


def sources(folder: Path) -> tuple[str, ...]:
    paths = corpora.write_pictures(folder / "pictures", 20)
    paths[3].write_bytes(b"no picture")
    paths[7].write_bytes(paths[7].read_bytes()[:100])
    return ("--images", str(folder / "pictures"), *TINY)


def test_figures_are_those_of_the_last_line(tmp_path: Path, capsys: Capture) -> None:
    root, file = str(tmp_path / "root"), tmp_path / "figures.prom"
    assert build.main(["--root", root, *sources(tmp_path), "--metrics", str(file)]) == 0
    said, found = json.loads(capsys.readouterr().out.splitlines()[-1]), read(file)
    for name in ("generation", "items", "vectors", "tombstones"):
        assert found[name, ()] == said[name]
    assert found["items_planned", ()] == said["items"] == 20
    assert found["items_embedded_total", ()] == said["embedded"] == 18
    assert found["items_rejected_total", ()] == said["rejected"] == 2
    reasons = {(one["stage"], one["type"]): 0 for one in said["reject_reasons"]}
    for one in said["reject_reasons"]:
        reasons[one["stage"], one["type"]] += one["count"]
    assert {labels: value for (name, labels), value in found.items() if name == "rejects_total"} == reasons
    stages = {labels[0]: value for (name, labels), value in found.items() if name == "stage_seconds"}
    assert stages == pytest.approx(said["seconds"], abs=0.2)
    spent = {labels[0]: value for (name, labels), value in found.items() if name == "spent_seconds_total"}
    assert spent == pytest.approx(said["spent"], abs=0.01)
    assert (found["run_running", ()], found["run_success", ()]) == (0, 1)
    assert found["run_end_timestamp_seconds", ()] >= found["run_start_timestamp_seconds", ()]
    assert found["stage_done", ("embed", "items")] == found["stage_planned", ("embed", "items")] == 20
    assert found["stored_bytes", ("index",)] == Path(said["index"]).stat().st_size
    assert [path.name for path in tmp_path.glob("figures*")] == ["figures.prom"]

    assert reindex.main(["--root", root, "--no-progress", "--metrics", str(file)]) == 0  # nothing to do
    assert read(file)["run_success", ()] == 1 and read(file)["generation", ()] == 1
    assert build.main(["--root", root, *sources(tmp_path), "--metrics", str(file)]) == 0  # nor here
    assert read(file)["vectors", ()] == said["vectors"]


def test_a_run_that_fails_says_so(tmp_path: Path) -> None:
    file = tmp_path / "figures.prom"
    words = ["--root", str(tmp_path / "root"), *sources(tmp_path), "--max-reject-ratio", "0.05"]
    assert build.main([*words, "--metrics", str(file)]) == 1
    found = read(file)
    assert (found["run_running", ()], found["run_success", ()]) == (0, 0)
    assert found["items_rejected_total", ()] == 2 and ("generation", ()) not in found


def test_while_a_run_is_watched_its_figures_are_refreshed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SECONDS_BETWEEN", 0.0)
    run, file = begin(tmp_path / "root", pictures(tmp_path)), tmp_path / "figures.prom"
    plan(run)
    kept = Metrics.of(str(file), run.store.url)
    assert kept is not None and not file.exists()
    kept.begin(run)
    assert read(file)["run_running", ()] == 1
    embed(run, FIRST, rejected=3)
    kept.refresh(RunProgress(run).look(), 12.5)
    found = read(file)
    assert found["stage_done", ("embed", "items")] == 100 and found["stage_planned", ("embed", "items")] == 500
    assert found["items_rejected_total", ()] == 3 and found["run_eta_seconds", ()] == 12.5
    assert ("run_success", ()) not in found


def test_watching_keeps_the_same_names(tmp_path: Path) -> None:
    run, file = begin(tmp_path / "root", pictures(tmp_path)), tmp_path / "figures.prom"
    plan(run)
    assert watch.main(["--root", str(tmp_path / "root"), "--stalled-after", "0.1", "--metrics", str(file)]) == 1
    found = read(file)
    assert found["run_success", ()] == 0 and found["items_planned", ()] == 500


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("", "is empty"),
        ("{folder}", "is a folder"),
        ("{folder}/no/figures.prom", "there is no folder"),
        ("s3://bucket/figures.prom", "name a file of this machine, or a Pushgateway"),
        ("http://", "a Pushgateway has a host"),
        ("http://127.0.0.1:9/", "no Pushgateway answers there"),
        ("{folder}/texts.csv/figures.prom", "there is no folder"),
        ("/proc/figures.prom", "/proc cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, capsys: Capture, target: str, why: str
) -> None:
    (tmp_path / "texts.csv").write_text("text\na\n")
    words = ["--root", str(tmp_path / "root"), "--csv", str(tmp_path / "texts.csv"), "--text-column", "text", *TINY]
    assert build.main([*words, f"--metrics={target.format(folder=tmp_path)}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pixdex: --metrics") and why in line
    assert not (tmp_path / "root").exists()


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server that keeps what is pushed: path, authorization, text."""
    pushed: list[tuple[str, str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            pushed.append((self.path, self.headers.get("Authorization", ""), text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", pushed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_is_that_of_a_gateway(tmp_path: Path, gateway: tuple[str, list[tuple[str, str, str]]]) -> None:
    address, pushed = gateway
    run = begin(tmp_path / "root", pictures(tmp_path))
    plan(run)
    kept = Metrics.of(f"http://me:secret@{address}", run.store.url)
    assert kept is not None and not pushed
    kept.begin(run)
    kept.finish(succeeded=False)
    (path, authorization, first), (_, _, last) = pushed
    assert path.startswith("/metrics/job/pixdex/root")
    assert authorization.startswith("Basic ")
    assert parsed(first)["run_running", ()] == 1
    assert parsed(last)["run_success", ()] == 0 and parsed(last)["items_planned", ()] == 500
    assert "secret" not in first + last


def test_a_gateway_that_goes_away_fails_no_run(tmp_path: Path, capsys: Capture) -> None:
    run, folder = begin(tmp_path / "root", pictures(tmp_path)), tmp_path / "figures"
    folder.mkdir()
    kept = Metrics.of(str(folder / "figures.prom"), run.store.url)
    assert kept is not None
    kept.begin(run)
    (folder / "figures.prom").unlink()
    folder.rmdir()
    kept.finish(succeeded=True)


def test_a_store_that_fails_for_a_moment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, file = str(tmp_path / "root"), tmp_path / "figures.prom"
    words = ["--root", root, *sources(tmp_path), "--metrics", str(file)]

    def gone(*_: object) -> None:
        raise ConnectionResetError("the store is away")

    with monkeypatch.context() as away:
        away.setattr(metrics, "stage_seconds", gone)  # as of a listing
        away.setattr(metrics, "published", SimpleNamespace(current=gone))
        assert build.main(words) == 0
        assert read(file)["items_embedded_total", ()] == 18
        assert build.main(words) == 0  # nothing to do
    assert read(file)["run_running", ()] == 0 and read(file)["run_success", ()] == 1


def test_what_failed_is_said_though_metrics_fail_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def gone(*_: object) -> None:
        raise ConnectionResetError("the store is away")

    monkeypatch.setattr(metrics, "stage_seconds", gone)
    words = ["--root", str(tmp_path / "root"), *sources(tmp_path), "--max-reject-ratio", "0.05"]
    assert build.main([*words, "--metrics", str(tmp_path / "figures.prom")]) == 1
    said = capsys.readouterr().err
    assert "--max-reject-ratio" in said and "Traceback" not in said


def test_a_gateway_that_does_not_answer_is_asked_no_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "root", pictures(tmp_path))
    plan(run)
    clock, asked = [1000.0], []

    def dead(*_: object, **__: object) -> None:
        asked.append(clock[0])
        clock[0] += 10
        raise TimeoutError("timed out")

    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    monkeypatch.setattr("prometheus_client.push_to_gateway", dead)
    kept, look = Metrics("http://127.0.0.1:9", run.store.url), RunProgress(run).look()
    kept.begin(run)
    for _ in range(5):
        kept.refresh(look, None)
    assert asked == [1000]
    clock[0] += 60
    kept.refresh(look, None)
    assert asked == [1000, 1070]


def test_a_root_is_named_without_credentials() -> None:
    kept = Metrics("unused", "https://me:secret@example.org/root")
    text = "".join(str(value) for value in vars(kept).values())
    assert "secret" in text  # or there is nothing to see here
    assert without_credentials(kept.root) == "https://example.org/root"


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(UsageError, match="--metrics is empty"):
        metrics.check(" ")
