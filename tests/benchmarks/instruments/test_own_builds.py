"""Our side of a benchmark is compared only with a peer that has the same key."""

from pathlib import Path

import pytest

from tests.benchmarks.instruments.measuring import Measured
from tests.benchmarks.instruments.own_builds import OwnRun, same_key


def built(key: str) -> OwnRun:
    return OwnRun(Path("root"), Measured(1.0, 1.0, 1, 0.5, "{}"), {"index_key": key, "seconds": {}})


@pytest.mark.parametrize("asked", ["OPQ64_256,IVF4096,PQ64x8", "OPQ64_256, IVF4096, PQ64", "OPQ64_256,IVF4096,PQ64np"])
def test_another_spelling_of_a_key_is_the_same_key(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = "OPQ64_256,IVF4096,PQ64"
    assert same_key(asked, built(key)) == {"asked": asked, "pixdex": key}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("key", ["IVF2048,PQ64", "IVF4096,PQ64x4", "IVF4096_HNSW32,PQ64"])
def test_another_key_is_told(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    same_key("IVF4096,PQ64x8", built(key))
    assert f"WARNING: IVF4096,PQ64x8 became {key}" in capsys.readouterr().err
