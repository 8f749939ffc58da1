"""Evaluations as a person runs them, and roots that they are of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines import evaluate
from tests.encoders import TinyEncoder
from tests.roots import Row, make_root
from transforms.storage.store import Store
from transforms.tasks.embed.open_encoder import fingerprint_of

Capture = pytest.CaptureFixture[str]
TINY = "tests.encoders:TinyEncoder"
TEXTS = [f"text {number}" for number in range(120)]
TIMES = {"p50_ms", "p99_ms", "batch_ms"}


def encoded(texts: list[str]) -> NDArray[np.float32]:
    """Directions of texts."""
    vectors = TinyEncoder().encode_texts(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def text_root(folder: Path, count: int = 120, number: int = 1, **how: Any) -> Store:
    """Texts of the tiny encoder, in shards of 40, with a label for each but every tenth."""
    rows = [
        Row(f"k{n:03}", vector.tolist(), "text", caption=text, columns={"label": None if n % 10 == 0 else f"l{n % 3}"})
        for n, (text, vector) in enumerate(zip(TEXTS[:count], encoded(TEXTS[:count]), strict=True))
    ]
    shards = [rows[at : at + 40] for at in range(0, count, 40)]
    tiny = fingerprint_of(TinyEncoder(), "crop")
    flags: dict[str, Any] = {"key": "IVF6,Flat", "nprobe": 2} | how
    return make_root(folder, *shards, spec=TINY, fingerprint=tiny, number=number, **flags)


def said(capsys: Capture, *words: object) -> dict[str, Any]:
    """What the last line says."""
    capsys.readouterr()
    assert evaluate.main([*map(str, words), "--no-progress"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


def refused(capsys: Capture, *words: object, code: int = 2) -> str:
    """The one line of an evaluation that cannot be."""
    capsys.readouterr()
    assert evaluate.main([*map(str, words), "--no-progress"]) == code
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    return line


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """The same whenever it is measured."""
    points = [{name: value for name, value in point.items() if name not in TIMES} for point in record["curve"]]
    return {name: value for name, value in record.items() if name != "seconds"} | {"curve": points}
