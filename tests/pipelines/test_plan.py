"""`pixdex plan`: numbers that hold from a million to a hundred billion, agree with a build, and refuse nonsense."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import build, plan, train
from pipelines.running.request import default_threads
from pipelines.terminal import flags, plan_report
from tests.tiers import mostly_gate
from transforms.forecast import rates
from transforms.forecast.hours import forecast
from transforms.forecast.workload import THREADS_A_TASK, Machines, Workload
from transforms.generations import published
from transforms.index import canaries
from transforms.index.index_key import IndexKey
from transforms.records import Plan
from transforms.runs.run import STAGES, Run
from transforms.storage.store import Store

SIZES = ("1e6", "1e9", "1e11")


@pytest.fixture(autouse=True)
def _no_measured_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert plan.main(["--json", *argv]) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return figures


def build_vectors(folder: Path, capsys: pytest.CaptureFixture[str], rows: int, *argv: str) -> Path:
    """Builds an index of random vectors of 16 components; returns its root."""
    vectors = np.random.default_rng(0).standard_normal((rows, 16)).astype(np.float16)
    np.save(folder / "v.npy", vectors)
    words = ["--root", str(folder / "root"), "--vectors", str(folder / "v.npy"), "--no-progress", *argv]
    assert build.main(words) == 0
    capsys.readouterr()
    return folder / "root"


@pytest.mark.parametrize("vectors", SIZES)
def test_every_size_has_a_plan_with_a_bottleneck(vectors: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = planned(capsys, "--num-vectors", vectors, "--dim", "512", "--workers", "100", "--cores", "8")
    assert figures["vectors"] == int(float(vectors))
    assert figures["bottleneck"] in STAGES
    assert figures["hours"] > 0
    assert figures["blocks"] <= figures["shards"]


def test_the_json_names_the_same_things_for_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    names = [planned(capsys, "--num-vectors", vectors, "--dim", "64").keys() for vectors in SIZES]
    assert names[0] == names[1] == names[2]
    assert list(names[0]) == [
        "vectors", "dim", "metric", "index_key", "nlist", "code_bytes", "sample_rows", "shards", "partitions", "blocks",
        "tiers", "pieces", "files", "markers", "storage_bytes", "workers", "cores", "bandwidth_bytes",
        "object_store", "worker_memory_bytes", "worker_disk_bytes", "stages", "seconds", "hours", "embedding",
        "bottleneck", "recall", "rates", "notes",
    ]  # fmt: skip


def test_the_stages_are_those_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    figures = planned(capsys, "--num-vectors", "1e9", "--dim", "512")
    assert [stage["stage"] for stage in figures["stages"]] == list(STAGES)
    assert figures["seconds"] == pytest.approx(
        sum(stage["seconds"] for stage in figures["stages"]) + figures["rates"]["start_seconds"], abs=0.1
    )


@pytest.mark.parametrize("rows", [10**6, 10**9, 10**11])
def test_more_workers_never_take_longer(rows: int) -> None:
    load = Workload(IndexKey.parse("OPQ64_256,IVF65536,PQ64"), "ip", rows, 512)
    hours = [forecast(load, Machines(workers, 8, 1 << 30), rates.DEFAULT).seconds for workers in (1, 2, 5, 17, 300)]
    assert hours == sorted(hours, reverse=True)


def test_more_vectors_never_take_fewer_bytes_or_less_time() -> None:
    key = IndexKey.parse("OPQ64_256,IVF65536,PQ64")
    loads = [Workload(key, "ip", rows, 512) for rows in (10**6, 3 * 10**6, 10**8, 10**9, 10**11)]
    sizes = [sum(load.storage.values()) for load in loads]
    hours = [forecast(load, Machines(4, 8), rates.DEFAULT).seconds for load in loads]
    assert sizes == sorted(sizes)
    assert hours == sorted(hours)


def test_a_worker_that_is_too_small_is_refused_with_the_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--num-vectors", "1e10", "--dim", "512", "--index-key", "OPQ64_256,IVF4194304,PQ64"]
    assert plan.main([*asked, "--worker-memory", "8G"]) == 2
    refused = capsys.readouterr().err
    assert refused.count("\n") == 1
    assert "4,194,304 lists x 256 dimensions x 4 bytes" in refused
    assert plan.main([*asked, "--worker-memory", "32G"]) == 0


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--num-vectors", "1e6"],
        ["--num-vectors", "0", "--dim", "8"],
        ["--num-vectors", "-5", "--dim", "8"],
        ["--num-vectors", "1.5", "--dim", "8"],
        ["--num-vectors", "1e99", "--dim", "8"],
        ["--num-vectors", "many", "--dim", "8"],
        ["--num-vectors", "1e6", "--dim", "0"],
        ["--num-vectors", "1e6", "--dim", "64", "--workers", "0"],
        ["--num-vectors", "1e6", "--dim", "64", "--items-per-second", "nan"],
        ["--num-vectors", "1e6", "--dim", "64", "--index-key", "HNSW32"],
        ["--num-vectors", "1e6", "--dim", "64", "--metric-type", "cosine"],
        ["--num-vectors", "1e6", "--dim", "64", "--worker-memory", "much"],
        ["--num-vectors", "1e9", "--dim", "64", "--max-index-memory", "1M"],
        ["--num-vector", "1e6", "--dim", "64"],
        ["--root", "nowhere"],
    ],
    ids=" ".join,
)
def test_nonsense_is_refused_in_a_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_an_index_beyond_the_default_memory_says_what_to_build_with(capsys: pytest.CaptureFixture[str]) -> None:
    (note,) = planned(capsys, "--num-vectors", "1e11", "--dim", "512")["notes"]
    assert "--max-index-memory" in note


def test_embedding_is_counted_when_its_rate_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = ["--num-vectors", "1e8", "--dim", "512", "--item-bytes", "200K", "--workers", "10"]
    unknown = planned(capsys, *pictures)
    known = planned(capsys, *pictures, "--items-per-second", "100")
    embed = next(stage for stage in known["stages"] if stage["stage"] == "embed")
    assert embed["seconds"] == pytest.approx(1e8 / 100 / 10, rel=0.01)
    assert embed["reads_bytes"] == 10**8 * 200 * 1024
    assert next(stage for stage in unknown["stages"] if stage["stage"] == "embed")["seconds"] is None
    assert known["bottleneck"] == "embed"


def test_a_plan_says_that_embedding_is_not_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = ["--num-vectors", "1e8", "--dim", "512", "--item-bytes", "200K"]
    unknown, known = planned(capsys, *pictures), planned(capsys, *pictures, "--items-per-second", "100")
    assert unknown["embedding"] is None
    assert unknown["bottleneck"] != "embed"
    assert known["embedding"] == pytest.approx(1e6, rel=0.01)
    assert plan.main(pictures) == 0
    assert "bottleneck  " in (shown := capsys.readouterr().out)
    assert "of the stages that are counted" in shown


def test_embedding_waits_for_the_network_too(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = ["--num-vectors", "1e8", "--dim", "512", "--item-bytes", "2M", "--items-per-second", "1e5"]
    figures = planned(capsys, *pictures, "--workers", "10", "--bandwidth", "1G")
    embed = next(stage for stage in figures["stages"] if stage["stage"] == "embed")
    assert embed["seconds"] == pytest.approx((embed["reads_bytes"] + embed["writes_bytes"]) / (10 << 30), rel=0.01)


def test_an_object_store_has_segments_and_fewer_inputs_a_merge(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--num-vectors", "1e9", "--dim", "512"]
    folder, flag = planned(capsys, *asked), planned(capsys, *asked, "--object-store")
    by_root = planned(capsys, *asked, "--root", "memory://pixdex-plan-test")
    assert planned(capsys, *asked, "--root", str(tmp_path))["object_store"] is False
    assert flag == by_root
    assert (folder["tiers"], flag["tiers"]) == (0, 1)
    assert flag["pieces"] == flag["files"]["index"] == -(-(10**9 * flag["code_bytes"] + 8 * 10**9) >> 30)
    assert folder["worker_disk_bytes"] == 0
    assert flag["worker_disk_bytes"] >= 1 << 30


@pytest.mark.gate
def test_a_code_size_beside_a_root_is_not_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--index-key", "auto", "--code-size", "8")
    root = build_vectors(tmp_path, capsys, 2000, *asked)
    more = ["--root", str(root), "--num-vectors", "1e8"]
    assert planned(capsys, *more)["code_bytes"] == 8
    assert planned(capsys, *more, "--code-size", "4")["code_bytes"] == 4


def test_the_limit_of_a_root_is_not_called_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = build_vectors(tmp_path, capsys, 2000, "--index-key", "auto", "--max-index-memory", "300M")
    (note,) = planned(capsys, "--root", str(root), "--num-vectors", "1e9")["notes"]
    assert note.startswith("the root's --max-index-memory of 300M is too little: build with ")
    wanted = note.rpartition(" ")[2]
    assert planned(capsys, "--root", str(root), "--num-vectors", "1e9", "--max-index-memory", wanted)["notes"] == []


def test_tasks_side_by_side_are_counted_in_the_memory_of_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--num-vectors", "1e9", "--dim", "512"]
    four, eight = (planned(capsys, *asked, "--cores", cores) for cores in ("4", "8"))
    added = [next(stage for stage in one["stages"] if stage["stage"] == "add")["memory_bytes"] for one in (four, eight)]
    assert added[0] < added[1] < 2 * added[0]
    assert plan.main([*asked, "--cores", "64", "--worker-memory", f"{four['worker_memory_bytes']}"]) == 2
    assert "16 tasks x" in capsys.readouterr().err


def test_what_is_assumed_is_not_called_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "--num-vectors", "1e6", "--dim", "64")["rates"]["assumed"] == ["shuffle_bytes"]
    assert plan.main(["--num-vectors", "1e6", "--dim", "64"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shuffle_bytes")]
    assert line.endswith("assumed")


def test_rates_of_before_there_was_one_more_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    rates.save(rates.DEFAULT)
    kept = json.loads(rates.file().read_text())
    del kept["parquet_bytes"]
    rates.file().write_text(json.dumps(kept))
    assert rates.load() == rates.DEFAULT


def test_rates_of_other_formulas_are_no_rates_of_these() -> None:
    rates.save(replace(rates.DEFAULT, counting=rates.COUNTING - 1))
    assert rates.load() is None


def test_people_see_the_formulas_and_the_rates(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["--num-vectors", "1e6", "--dim", "512", "--index-key", "OPQ64_256,IVF4096,PQ64"]) == 0
    shown = capsys.readouterr().out
    assert "2 x 1,000,000 x 4,096 x 188" in shown
    assert rates.DEFAULT.machine in shown
    assert json.loads(shown.splitlines()[-1])["vectors"] == 10**6


def test_measured_rates_are_used_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    slow = planned(capsys, "--num-vectors", "1e9", "--dim", "512")["seconds"]
    rates.save(replace(rates.DEFAULT, machine="a faster one", flat_flops=1e15, grouped_flops=1e15, read_bytes=1e15))
    fast = planned(capsys, "--num-vectors", "1e9", "--dim", "512")
    assert fast["rates"]["machine"] == "a faster one"
    assert fast["seconds"] < slow


def test_damaged_rates_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    rates.file().parent.mkdir(parents=True)
    rates.file().write_text("{")
    assert plan.main(["--num-vectors", "1e6", "--dim", "64"]) == 1
    assert "rates.json" in capsys.readouterr().err


def test_threads_of_a_task_are_those_of_a_request() -> None:
    assert default_threads() <= THREADS_A_TASK
    assert Machines(3, 32).slots == 3 * 8


def test_flags_of_a_build_mean_the_same_in_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    helps = []
    for command in (plan.main, build.main):
        with pytest.raises(SystemExit):
            command(["--help"])
        helps.append(" ".join(capsys.readouterr().out.split()))
    for flag in (
        flags.ROOT, flags.INDEX_KEY, flags.METRIC_TYPE, flags.MAX_INDEX_MEMORY, flags.CODE_SIZE, flags.WORKER_MEMORY
    ):  # fmt: skip
        assert all(f"{flag.name} " in text and flag.help in text for text in helps), flag.name


def test_it_starts_without_beam_and_torch() -> None:
    code = (
        "import sys; from pipelines import plan\n"
        "plan.main(['--num-vectors', '1e9', '--dim', '512'])\n"
        "sys.exit(str([m for m in ('apache_beam', 'torch') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("key", mostly_gate(["IVF64,Flat", "OPQ4_16,IVF512,PQ4"], quick=["IVF64,Flat"]))
def test_a_plan_is_what_a_build_does(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, dim = 70_000, 16
    root = build_vectors(tmp_path, capsys, rows, "--index-key", key)
    figures = planned(capsys, "--root", str(root))
    store = Store.at(str(root))
    run, generation = Run(store, 1), published.current(store)
    plan_of_build = store.read_record("plans/000001/plan.json", Plan)
    assert generation is not None
    assert (figures["vectors"], figures["dim"]) == (rows, dim)
    assert (figures["index_key"], figures["nlist"]) == (plan_of_build.index_key, generation.trained.nlist)
    assert (figures["shards"], figures["blocks"]) == (plan_of_build.shards, plan_of_build.blocks)
    assert figures["code_bytes"] == generation.trained.code_size
    tasks = {stage["stage"]: stage["tasks"] for stage in figures["stages"]}
    for stage in ("embed", "sample", "route", "cells", "pass1", "add"):
        marker = run.stage_marker(stage)
        assert marker is not None
        assert marker.tasks == tasks[stage], stage
    assert figures["storage_bytes"]["lists"] == pytest.approx(rows * (generation.trained.code_size + 8))
    assert figures["storage_bytes"]["index"] == pytest.approx(generation.index.bytes, rel=0.01)
    for kind, parts in {"trained": ["trained"], "training": ["plans/000001/sample", "plans/000001/training"]}.items():
        files = [file for part in parts for file in (root / part).rglob("*") if file.suffix != ".json"]
        assert figures["storage_bytes"][kind] == pytest.approx(sum(file.stat().st_size for file in files), rel=0.03)


def test_recall_is_that_which_training_measured_and_of_another_index_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = build_vectors(tmp_path, capsys, 3000, "--index-key", "IVF16,SQ8")
    store = Store.at(str(root))
    generation = published.current(store)
    assert generation is not None
    assert generation.canaries is not None
    measured = canaries.load(store, generation.canaries).recall_trained
    assert planned(capsys, "--root", str(root))["recall"] == pytest.approx(measured, abs=1e-4)
    assert 0 < measured <= 1
    assert planned(capsys, "--root", str(root), "--index-key", "IVF16,Flat")["recall"] is None
    assert planned(capsys, "--num-vectors", "1e6", "--dim", "16")["recall"] is None
    assert plan.main(["--root", str(root)]) == 0
    assert f"{measured:.3f} by codes, as training measured it" in capsys.readouterr().out


def test_a_build_that_is_trained_but_not_finished_has_its_recall_and_its_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float16))
    words = ["--root", str(tmp_path / "root"), "--vectors", str(tmp_path / "v.npy"), "--index-key", "IVF16,SQ8"]
    assert train.main([*words, "--no-progress"]) == 0
    capsys.readouterr()
    figures = planned(capsys, "--root", str(tmp_path / "root"))
    assert 0 < figures["recall"] <= 1
    assert figures["storage_bytes"]["vectors"] == 0  # .npy files are read where they lie


def test_a_root_without_an_index_says_what_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["--root", str(tmp_path)]) == 2
    assert "--num-vectors" in capsys.readouterr().err


def test_durations_and_sizes_read_well() -> None:
    load = Workload(IndexKey.parse("IVF4096,PQ64"), "ip", 10**6, 512)
    text = plan_report.text_of(forecast(load, Machines(1, 2), rates.DEFAULT), ["a note"])
    assert "1,000,000 of 512 components" in text
    assert text.endswith("note: a note")
