"""What workers of each stage are asked to have."""

from dataclasses import replace

import pytest

from tests.transforms.small_runs import TINY
from transforms.forecast.machines import LARGE_BYTES, MACHINE_BYTES, SMALL_BYTES, Worker, Workers, workers_for
from transforms.forecast.memory import stage_memory
from transforms.forecast.workload import Workload
from transforms.index.index_key import IndexKey
from transforms.records import EncoderSettings, IndexSettings, Request, Source


def request(key: str = "auto", **encoder: object) -> Request:
    settings: EncoderSettings = replace(TINY, **encoder)  # type: ignore[arg-type]  # fields of the record
    return Request((), settings, IndexSettings(key))


def test_nobody_is_asked_for_anything_unless_it_is_said() -> None:
    workers = Workers()
    assert [worker.hints for worker in (workers.embedding, workers.indexing, workers.other)] == [{}, {}, {}]
    assert workers.task_memory is None


def test_hints_are_those_of_beam() -> None:
    assert Worker(1 << 30, "type:nvidia-l4").hints == {"min_ram": 1 << 30, "accelerator": "type:nvidia-l4"}


@pytest.mark.parametrize(("device", "asked"), [("cuda", True), ("cuda:1", True), ("cpu", False), ("auto", False)])
def test_a_gpu_is_asked_for_where_the_request_names_one(device: str, asked: bool) -> None:
    assert (workers_for(request(device=device)).embedding.gpu is not None) == asked


def test_a_gpu_that_is_named_is_asked_for_whatever_the_device() -> None:
    gpu = workers_for(request(device="auto"), gpu="nvidia-l4").embedding.gpu
    assert gpu == "type:nvidia-l4;count:1;install-nvidia-driver"


def test_ready_embeddings_need_no_gpu_and_little_memory() -> None:
    ready = replace(request(device="cuda"), sources=(Source("vectors", "file:///a.npy"),))
    workers = workers_for(ready, gpu="nvidia-l4")
    assert workers.embedding == Worker(SMALL_BYTES)


def test_larger_vectors_take_more_memory_to_embed() -> None:
    small, large = (workers_for(request(dim=dim)).embedding.memory for dim in (512, 4096))
    assert small is not None and large is not None
    assert large - small == 65536 * 2 * 4 * (4096 - 512)


def test_usual_indexes_are_made_on_usual_machines() -> None:
    workers = workers_for(request("IVF65536,SQ8", dim=512))
    assert (workers.indexing.memory, workers.other.memory) == (LARGE_BYTES, SMALL_BYTES)


def test_a_large_index_is_given_what_its_hungriest_task_takes() -> None:
    key = "OPQ64_256,IVF4194304_HNSW32,PQ64"
    asked = workers_for(request(key, dim=1024)).indexing.memory
    load = Workload(IndexKey.parse(key), "ip", 10**9, 1024, object_store=True)
    assert asked is not None and asked > LARGE_BYTES
    assert asked >= max(task.bytes for task in stage_memory(load).values()) + MACHINE_BYTES


def test_the_plan_is_held_to_what_a_task_may_take_of_its_worker() -> None:
    assert workers_for(request(), 48 << 30).task_memory == (48 << 30) - MACHINE_BYTES


def test_an_index_that_fits_no_memory_is_for_workers_to_refuse() -> None:
    asked = replace(request(dim=512), index=IndexSettings("auto", "ip", 1))
    assert workers_for(asked).indexing.memory == LARGE_BYTES
