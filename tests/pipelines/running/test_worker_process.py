import io
import subprocess
from typing import Any

import pytest

from pipelines.running.worker_process import Worker
from transforms.interpreter import WORKER_NUMBER


def test_workers_of_one_parent_are_numbered_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """By which each takes another GPU of a machine that has several."""
    numbers: list[int] = []

    class Started:
        def __init__(self, *_: object, env: dict[str, str], **__: Any) -> None:
            self.stderr = io.BytesIO()
            numbers.append(int(env[WORKER_NUMBER]))

    monkeypatch.setattr(subprocess, "Popen", Started)
    for number in range(3):
        Worker(f"1-{number}", "localhost:1")
    assert [number - numbers[0] for number in numbers] == [0, 1, 2]
