"""A picture that ends or stops its decoder costs its item, on every runner, once the same command is run again.

The in-process runner is tried by the gate; processes and Flink take minutes, most to notice that a worker died:

    pytest -m slow tests/end_to_end/runners/test_deadly_pictures.py
"""

from pathlib import Path

import pytest

from tests import corpora, deadly
from tests.end_to_end.builds import EVERYTHING, TINY, rejects_of, rows_of, run_apart, run_here

PATIENCE = 300
COLUMNS = ("key", "modality", "part", "caption", "embedding")
ABORTS, SLEEPS = 4, 9
RUNS = 3
"""One that dies, one that takes care; a runner may need one more, if its workers died of two attempts at once."""


CASES = [
    pytest.param("here", marks=pytest.mark.gate),
    pytest.param("processes", marks=pytest.mark.slow),
    pytest.param("flink", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("runner", CASES)
def test_pictures_that_end_or_stop_their_decoder_are_rejects(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    runner: str,
    request: pytest.FixtureRequest,
) -> None:
    flags: tuple[str, ...] = ()
    if runner == "processes":
        flags = ("--workers", "2")
    if runner == "flink":
        flags = request.getfixturevalue("flink").job_server
    deadly.arm(monkeypatch)
    pictures = corpora.write_pictures(tmp_path / "i", 12)
    words = ("--csv", corpora.write_csv(tmp_path / "rows.csv", pictures), *EVERYTHING, *TINY)
    for place in (ABORTS, SLEEPS):
        pictures[place].write_bytes(b"no picture")
    sound = run_here(capsys, "--root", tmp_path / "sound", *words)
    assert sound.code == 0, sound.err

    pictures[ABORTS].write_bytes(deadly.picture("abort"))
    pictures[SLEEPS].write_bytes(deadly.picture("sleep"))
    runs = [run_apart("--root", tmp_path / "root", *words, "--item-timeout", "10", *flags, timeout=PATIENCE)]
    while runs[-1].code and len(runs) < RUNS:
        runs.append(run_apart("--root", tmp_path / "root", *words, "--item-timeout", "10", *flags, timeout=PATIENCE))

    assert runs[0].code != 0, "the first run met the picture unguarded"
    assert runs[-1].code == 0, [run.err for run in runs]
    assert runs[-1].said["rejected"] == 2
    assert [(reject["uri"], reject["stage"], reject["type"]) for reject in rejects_of(tmp_path / "root")] == [
        (f"file://{pictures[ABORTS]}", "decode", "crash"),
        (f"file://{pictures[SLEEPS]}", "decode", "timeout"),
    ]
    assert rows_of(tmp_path / "root", COLUMNS) == rows_of(tmp_path / "sound", COLUMNS)
    attempts = (tmp_path / "root" / "plans" / "000001" / "attempts").iterdir()
    assert [path.name for path in attempts] == ["report"]  # which is made once, and of no shard
