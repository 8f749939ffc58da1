"""Where the time of embedding goes is added up by machine, and what is short of is named."""

import threading
import time

import pytest

from transforms.markers import ShardMarker, TimeSpent
from transforms.tasks.embed.limits import FETCH_THREADS
from transforms.tasks.embed.spent import PARTS, Clock, total, what_limits


def shard(
    seconds: float, *, began: float = 0.0, host: str = "a", cores: int = 2, device: str = "cpu", **spent: float
) -> ShardMarker:
    parts = dict.fromkeys(PARTS, 0.0) | spent
    time_spent = TimeSpent(parts, began, host, cores, device, FETCH_THREADS)
    return ShardMarker(0, 0, "", 1, 0, 1, 1, 0, 0, None, None, seconds, spent=time_spent)


@pytest.mark.parametrize(
    ("shards", "threads", "said"),
    [
        ([shard(10, decode=13, preprocess=3)], 1, "decoding is the limit: 1.3 of 2 cores (preprocessing 0.3)"),
        ([shard(10, encode=9, decode=1)], 2, "encoding is the limit: 1.8 of 2 cores (decoding 0.1)"),
        # Two workers beside each other on one machine share its cores; one after the other, they do not.
        ([shard(10, decode=8), shard(10, decode=8)], 1, "decoding is the limit: 1.6 of 2 cores"),
        ([shard(10, decode=8), shard(10, decode=8, began=10)], 1, None),
        ([shard(10, decode=8, host=host, cores=1) for host in "abc"], 1, "decoding is the limit: 0.8 of 1 cores"),
        ([shard(10, fetch=10 * FETCH_THREADS - 5, wait=9)], 1, "fetching is the limit: 7.5 of 8 connections are busy"),
        ([shard(10, encode=9, decode=4, device="cuda:0")], 4, "encoding is the limit: 90% of the time"),
        ([shard(10, encode=5, device="cuda:0", decode=18)], 4, "decoding is the limit: 1.8 of 2 cores"),
        ([shard(10, encode=2)], 1, None),
        ([], 1, None),
    ],
)
def test_what_is_short_of_is_named(shards: list[ShardMarker], threads: int, said: str | None) -> None:
    assert what_limits(shards, threads) == said


def test_seconds_of_all_shards_are_added_up() -> None:
    assert total([]) is None
    assert total([shard(1, fetch=1.5, write=1), shard(1, fetch=2)]) == dict.fromkeys(PARTS, 0.0) | {
        "fetch": 3.5,
        "write": 1,
    }


def test_a_thread_that_waits_computes_nothing_and_seconds_pass() -> None:
    clock = Clock("cuda:1")

    def both() -> None:
        with clock.passing("fetch"), clock.working("decode"):
            time.sleep(0.05)

    threads = [threading.Thread(target=both) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ValueError, match="broken"), clock.passing("encode"):
        time.sleep(0.01)
        raise ValueError("broken")
    spent = clock.spent()
    assert spent.device == "cuda:1" and spent.cores > 0 and spent.began <= time.time()
    assert spent.seconds["fetch"] >= 0.2 and spent.seconds["encode"] >= 0.01
    assert spent.seconds["decode"] < spent.seconds["fetch"]
