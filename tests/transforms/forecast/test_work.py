"""What stages cost: every figure is what its formula says, for any build."""

import re
import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.forecast import rates
from transforms.forecast.hours import forecast
from transforms.forecast.work import Work, stage_costs
from transforms.forecast.workload import Machines, Workload
from transforms.index.index_key import IndexKey
from transforms.records import Refine

KEYS = ("Flat", "IVF64,Flat", "IVF4096,SQ8", "OPQ64_256,IVF4096,PQ64", "OPQ16_64,IVF65536_HNSW32,PQ16x4")


def evaluated(text: str) -> float:
    """Computes what a formula says."""
    wanted = text.removesuffix(" bytes").replace(",", "").replace(" x ", " * ").replace("²", "**2").replace("³", "**3")
    assert re.fullmatch(r"[\d.*+() ]+", wanted), text
    return float(eval(wanted))


@given(
    key=st.sampled_from(KEYS),
    rows=st.integers(1, 10**12),
    item_bytes=st.sampled_from([None, 100_000]),
    normalized=st.booleans(),
    object_store=st.booleans(),
    refine=st.sampled_from(get_args(Refine)),
)
def test_every_figure_is_what_its_formula_says(
    key: str, rows: int, item_bytes: int | None, normalized: bool, object_store: bool, refine: Refine
) -> None:
    load = Workload(IndexKey.parse(key), "ip", rows, 512, item_bytes, normalized, object_store, refine)
    for stage in stage_costs(load):
        for work in stage.works:
            assert work.amount == pytest.approx(evaluated(work.formula), abs=1), (stage.stage, work)


def works(load: Workload, stage: str) -> list[Work]:
    return [work for cost in stage_costs(load) for work in cost.works if cost.stage == stage]


@pytest.mark.parametrize("stage", ["sample", "add"])
def test_own_shards_are_read_at_the_rate_of_parquet(stage: str) -> None:
    key = IndexKey.parse("IVF4096,PQ64")
    ready, own = (Workload(key, "ip", 10**6, 512, item_bytes) for item_bytes in (None, 1000))
    assert "parquet_bytes" in {work.rate for work in works(own, stage)}
    assert "read_bytes" not in {work.rate for work in works(own, stage)}
    assert "parquet_bytes" not in {work.rate for work in works(ready, stage)}


def test_half_of_the_components_do_not_halve_what_a_score_takes() -> None:
    def scores(dim: int) -> float:
        load = Workload(IndexKey.parse("IVF16384,PQ32"), "ip", 10**7, dim)
        return sum(work.amount for work in works(load, "add") if work.rate == "grouped_flops")

    assert 0.6 < scores(128) / scores(256) < 0.65


def test_vectors_that_do_not_fit_the_page_cache_come_from_the_disk() -> None:
    load = Workload(IndexKey.parse("IVF1024,PQ64"), "ip", 10**7, 512)  # 10 GB
    roomy, small = (forecast(load, Machines(1, 2, cache=cache), rates.DEFAULT) for cache in (16 << 30, 8 << 30))
    for before, after in zip(roomy.stages, small.stages, strict=True):
        if before.cost.stage in ("embed", "sample", "add"):
            assert (after.seconds or 0.0) >= load.stored / rates.DEFAULT.disk_bytes
        else:
            assert after.seconds == before.seconds
    within = forecast(load, Machines(1, 2), rates.DEFAULT)
    assert within.seconds == roomy.seconds


def test_one_process_makes_no_graph() -> None:
    load = Workload(IndexKey.parse("IVF1024,Flat"), "ip", 10**6, 512)
    slow_graphs = replace(rates.DEFAULT, stage_seconds=100.0, graph_seconds=100.0)
    slow_steps = replace(rates.DEFAULT, step_seconds=100.0)
    alone, many = Machines(1, 2), Machines(2, 2)
    usual = {machines: forecast(load, machines, rates.DEFAULT).seconds for machines in (alone, many)}
    assert forecast(load, alone, slow_graphs).seconds == usual[alone]
    assert forecast(load, many, slow_steps).seconds == usual[many]
    assert forecast(load, alone, slow_steps).seconds > usual[alone] + 1000
    assert forecast(load, many, slow_graphs).seconds > usual[many] + 1000


def test_sub_vectors_of_many_components_are_encoded_by_products() -> None:
    few, many = (Workload(IndexKey.parse(f"IVF1024,PQ{parts}"), "ip", 10**6, 512) for parts in (64, 32))
    assert "encode_flops" in {work.rate for work in works(few, "add")}
    assert "encode_flops" not in {work.rate for work in works(many, "add")}


def test_a_forecast_is_arithmetic_and_loads_none_of_what_does_the_work() -> None:
    code = """
import sys
from transforms.forecast import hours, machines, memory, rates, work, workload
print({"torch", "apache_beam", "faiss", "PIL", "fsspec"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
