"""A graph that is worked off while it is wired does what Beam's own runner does with it, step by step."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.pvalue import AsIter, AsList, AsSingleton, TaggedOutput
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.combiners import Count
from apache_beam.transforms.window import FixedWindows

from pipelines import build, reindex
from pipelines.running.destination import work_off
from pipelines.running.graph import at_once
from tests.end_to_end.builds import TINY, content, write_corpus
from transforms.errors import PixdexError, UsageError

BY_BEAM = ("--runner", "FnApiRunner")


class Keep(beam.DoFn):
    """Writes down what comes, where a test finds it, whoever works it off."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def process(self, element: Any) -> None:
        with (self._folder / self._name).open("a") as stream:
            stream.write(f"{element!r}\n")


class Task(beam.DoFn):
    def __init__(self) -> None:
        """Beam's own says no types."""


class Split(Task):
    def process(self, number: int, some: Sequence[int], *, times: int) -> Iterator[Any]:
        yield number + sum(some)
        if number % 2:
            yield TaggedOutput("odd", times * number)


class Plain(Task):
    def process(self, pair: tuple[Any, Iterable[Any]]) -> Iterator[Any]:
        key, values = pair
        yield key, sorted(values)


class PlainDict(Task):
    def process(self, pair: tuple[Any, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        key, by_tag = pair
        yield key, {tag: sorted(values) for tag, values in sorted(by_tag.items())}


class Add(Task):
    def process(self, number: int, one: int, others: Iterable[int]) -> list[int]:
        return [number + one + sum(others)]


def wired(folder: Path, pipeline: beam.Pipeline) -> None:
    """Every kind of step that a stage is made of, and the ways in which they are put together."""
    numbers = pipeline | "Numbers" >> beam.Create([1, 2, 3, 4])
    none = pipeline | "None" >> beam.Create([])
    spread = numbers | "Spread" >> beam.Reshuffle()
    split = spread | "Split" >> beam.ParDo(Split(), AsList(numbers), times=10).with_outputs("odd", main="all")
    odd = split["odd"]
    pairs = split["all"] | "Pairs" >> beam.Map(lambda number: (number % 2, number))
    odd_pairs = odd | "OddPairs" >> beam.Map(lambda number: (number % 3, number))
    both = (pairs, odd_pairs) | "Both" >> beam.Flatten()
    counted = both | "Count" >> Count.Globally()
    joined = {"one": pairs, "other": odd_pairs} | "Join" >> beam.CoGroupByKey()
    kept = {
        "odd": odd,
        "grouped": both | "Group" >> beam.GroupByKey() | "Plain" >> beam.ParDo(Plain()),
        "joined": joined | "Dict" >> beam.ParDo(PlainDict()),
        "counted": counted,
        "no": none | "CountNone" >> Count.Globally(),
        "once": pipeline | "Once" >> beam.Impulse(),
        "added": numbers | "Add" >> beam.ParDo(Add(), AsSingleton(counted), AsIter(none)),
    }
    for name, elements in kept.items():
        _ = elements | f"Keep{name}" >> beam.ParDo(Keep(folder, name))


def test_what_comes_of_each_kind_of_step_is_what_beam_makes_of_it(tmp_path: Path) -> None:
    for name in ("here", "beam"):
        (tmp_path / name).mkdir()
    at_once.work_off(lambda pipeline: wired(tmp_path / "here", pipeline))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        wired(tmp_path / "beam", pipeline)
    here, there = (
        {file.name: sorted(file.read_text().splitlines()) for file in (tmp_path / name).iterdir()}
        for name in ("here", "beam")
    )
    assert here == there
    assert here["counted"] == ["6"] and here["no"] == ["0"] and here["odd"] == ["10", "30"]


class Noting(beam.DoFn):
    def __init__(self, notes: Path, *, fails: bool = False) -> None:
        self._notes, self._fails = notes, fails

    def _note(self, what: str) -> None:
        with self._notes.open("a") as stream:
            stream.write(f"{what} ")

    def setup(self) -> None:
        self._note("setup")

    def start_bundle(self) -> None:
        self._note("start")

    def process(self, number: int) -> None:
        self._note(str(number))
        if self._fails:
            raise UsageError("a row is wrong")

    def finish_bundle(self) -> None:
        self._note("finish")

    def teardown(self) -> None:
        self._note("teardown")


def _with(pipeline: beam.Pipeline, step: Any) -> None:
    _ = pipeline | beam.Create([1, 2]) | step


def test_a_task_is_set_up_and_torn_down_whatever_happens(tmp_path: Path) -> None:
    for fails, expected in ((False, "setup start 1 2 finish teardown "), (True, "setup start 1 teardown ")):
        notes, task = tmp_path / f"{fails}", Noting(tmp_path / f"{fails}", fails=fails)
        try:
            work_off(partial(_with, step=beam.ParDo(task)))
        except UsageError as error:
            assert str(error) == "a row is wrong"
        assert notes.read_text() == expected


def raising(error: BaseException) -> Any:
    def fail(_: object) -> None:
        raise error

    return lambda pipeline: pipeline | beam.Create([0]) | beam.Map(fail)


def test_what_a_task_raises_is_told_as_that_of_a_worker() -> None:
    with pytest.raises(UsageError, match=r"^name it$"):
        work_off(raising(UsageError("name it")))
    with pytest.raises(PixdexError, match=r"No space left on device.*make room"):
        work_off(raising(OSError(28, "No space left on device")))
    with pytest.raises(ZeroDivisionError, match="what"):
        work_off(raising(ZeroDivisionError("what")))
    with pytest.raises(KeyboardInterrupt):
        work_off(raising(KeyboardInterrupt()))


def test_a_step_that_no_stage_is_made_of_is_refused() -> None:
    for step in (beam.WindowInto(FixedWindows(1)), beam.Map(lambda _, at=beam.DoFn.TimestampParam: at)):
        with pytest.raises(NotImplementedError, match="more of Beam than elements"):
            work_off(partial(_with, step=step))
    with pytest.raises(NotImplementedError):
        work_off(lambda pipeline: pipeline | beam.PTransform())
    with pytest.raises(NotImplementedError, match="an output that the step does not name"):
        work_off(partial(_with, step=beam.FlatMap(lambda one: [beam.pvalue.TaggedOutput("unnamed", one)])))


def test_builds_and_nights_are_the_same_to_the_byte_whoever_works_them_off(tmp_path: Path) -> None:
    rows = write_corpus(tmp_path, 24)
    words = ("--csv", str(rows), "--image-column", "image", "--text-column", "description", *TINY)
    roots = {tmp_path / "here": (), tmp_path / "beam": BY_BEAM}
    for root, flags in roots.items():
        assert build.main(["--root", str(root), *words, *flags]) == 0
    here, there = map(content, roots)
    assert here == there
    rows.write_text("\n".join(rows.read_text().splitlines()[:-3]) + "\n")
    for root, flags in roots.items():
        assert reindex.main(["--root", str(root), "--no-progress", *flags]) == 0
    after = tuple(map(content, roots))
    assert after[0] == after[1] != here


def test_ready_embeddings_are_planned_the_same_with_a_graph_and_without(tmp_path: Path) -> None:
    (tmp_path / "vectors").mkdir()
    for number in range(3):
        drawn = np.random.default_rng(number).standard_normal((40 + number, 8), np.float32)
        np.save(tmp_path / "vectors" / f"{number}.npy", drawn)
    (tmp_path / "vectors" / "note.txt").write_text("left out")
    roots = {tmp_path / "here": (), tmp_path / "beam": BY_BEAM}
    for root, flags in roots.items():
        words = ("--vectors", str(tmp_path / "vectors"), "--index-key", "IVF2,Flat", "--no-progress")
        assert build.main(["--root", str(root), *words, *flags]) == 0
    (tmp_path / "vectors" / "1.npy").unlink()
    np.save(tmp_path / "vectors" / "3.npy", np.ones((7, 8), np.float32))
    before = [content(root) for root in roots]
    for root, flags in roots.items():
        assert reindex.main(["--root", str(root), "--no-progress", *flags]) == 0
    after = [content(root) for root in roots]
    assert before[0] == before[1] and after[0] == after[1] != before[0]
