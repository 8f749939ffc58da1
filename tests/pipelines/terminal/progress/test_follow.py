"""From looks at a run to events."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.terminal.progress import words
from pipelines.terminal.progress.ahead import Ahead
from pipelines.terminal.progress.follow import Follower, PartsFollower
from pipelines.terminal.progress.json_lines import record_of
from pipelines.terminal.progress.lines import Lines
from pipelines.terminal.progress.words import PHASES, Event
from tests.examples import cheap
from transforms.runs.progress import Embedded, RunLook, StageProgress, unit_of
from transforms.runs.run import STAGES, Stage


def look(at: Stage | None, done: float = 0, planned: float | None = 100, **over: float) -> RunLook:
    """A look at a run that is at a stage, or over; those before had 10 of 10 done, and ended when `over` says."""
    before = STAGES if at is None else STAGES[: STAGES.index(at)]
    stages = [
        StageProgress(stage, unit_of(stage), 10, 10, int(stage != "tier"), finished=over.get(stage, 1.0))
        for stage in before
    ]
    if at is not None:
        stages.append(StageProgress(at, unit_of(at), done, planned, int(done)))
    return RunLook(3, tuple(stages), Embedded(), None)


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.stage) for event in events]


def test_stages_begin_go_on_and_end_once() -> None:
    follower = Follower()
    assert kinds([*follower.take(look("plan", planned=None), 100)]) == [("begin", "plan"), ("progress", "plan")]
    assert kinds([*follower.take(look("embed", 5, plan=101.0), 101.5)]) == [
        ("end", "plan"),
        ("begin", "embed"),
        ("progress", "embed"),
    ]
    assert kinds([*follower.take(look("embed", 10, plan=101.0), 102)]) == [("progress", "embed")]
    rest = [*follower.take(look(None, plan=101.0, **dict.fromkeys(STAGES[1:], 103.0)), 104)]
    assert [event.stage for event in rest if event.kind == "end"] == [
        phase.name for phase in PHASES if phase.name not in ("plan", "first merge")
    ]
    assert [*follower.take(look(None), 105)] == []
    assert follower.stop(106) is None


def test_a_restart_counts_what_was_there_as_done_and_not_in_the_rate() -> None:
    follower = Follower()
    began = [*follower.take(look("embed", 80), 100)]
    assert (began[0].kind, began[0].stage, began[0].seconds) == ("begin", "plan", None)
    (event,) = follower.take(look("embed", 90), 110)
    assert (event.done, event.share, event.rate, event.left) == (90, 0.9, 1.0, 10)


def test_the_time_left_of_all_is_a_forecasts_and_follows_the_pace() -> None:
    expected: Mapping[Stage, float] = dict.fromkeys(STAGES[1:], 10.0)
    follower = Follower("add", lambda: Ahead(expected))
    latest = None
    for at, stage in enumerate(STAGES[1:15]):  # each takes twice as long as it is expected to
        over = {each: 20.0 * place for place, each in enumerate(STAGES[:15])}
        *_, latest = follower.take(look(stage, 0, **over), 20.0 * at)
    assert latest is not None and latest.stage == "add"
    assert latest.all_left == latest.left
    assert latest.left is not None and latest.left == pytest.approx(10 * (240 + 21) / (120 + 21))  # twelve were seen


def test_without_a_forecast_only_the_stages_own_time_is_known() -> None:
    follower = Follower()
    [*follower.take(look("embed", 10), 0)]
    (event,) = follower.take(look("embed", 20), 10)
    assert (event.left, event.all_left) == (80, None)


def test_a_forecast_of_a_usual_machine_is_told_once_a_twentieth_of_it_was_seen() -> None:
    expected: Mapping[Stage, float] = dict.fromkeys(STAGES[1:], 10.0)
    follower, here = Follower("publish", lambda: Ahead(expected)), Follower("publish", lambda: Ahead(expected, True))
    told = []
    for at, (stage, done) in enumerate([("plan", 0), ("keys", 0), ("keys", 40), ("keys", 60)]):
        *_, event = follower.take(look(stage, done, plan=1.0, embed=1.0), 1.0 + 3 * at)  # type: ignore[arg-type]
        *_, known = here.take(look(stage, done, plan=1.0, embed=1.0), 1.0 + 3 * at)  # type: ignore[arg-type]
        told.append((event.all_left is not None, known.all_left is not None))
    assert told == [(False, False), (False, True), (False, True), (True, True)]


def test_only_stages_that_were_seen_whole_say_how_long_they_took() -> None:
    follower = Follower("publish", lambda: Ahead(dict.fromkeys(STAGES, 10.0)))
    [*follower.take(look("keys", 50), 100)]
    [*follower.take(look("tombstones", 50, keys=103.0), 104)]
    [*follower.take(look("drift", 50, keys=103.0, tombstones=108.0), 110)]
    assert follower.took == {"tombstones": 5.0}


def test_an_index_that_is_taken_over_is_not_trained() -> None:
    follower, before = Follower(), STAGES[: STAGES.index("train")]
    empty = tuple(StageProgress(stage, unit_of(stage), 0, 0, 0, finished=1.0) for stage in before)
    taken = StageProgress("train", "tasks", 1, 1, 1, finished=2.0)
    looks = [(*empty, StageProgress("train", "tasks", 0, 1, 0)), (*empty, taken)]
    events = [event for stages in looks for event in follower.take(RunLook(3, stages, Embedded(), None), 3.0)]
    assert {event.stage for event in events} == {"plan"}


def test_training_is_one_stage_of_steps_with_names() -> None:
    follower = Follower()
    [*follower.take(look("sample", 0), 0)]
    (event,) = follower.take(look("cells", 0, None), 1)
    assert words.count(event) == "3 of 9 steps" and event.step == "clustering"
    (event,) = follower.take(look("train", 0, 1), 2)
    assert words.line(event).startswith("train         88 %  8 of 9 steps  training codes")


@cheap
@given(
    st.lists(st.tuples(st.sampled_from(STAGES), st.floats(0, 100), st.floats(0, 50)), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_seen_shares_are_shares_times_are_positive_and_ends_are_whole(
    looks: list[tuple[Stage, float, float]], forecast: bool, of_here: bool
) -> None:
    follower = Follower("publish", lambda: Ahead(dict.fromkeys(STAGES, 1.0), of_here) if forecast else Ahead())
    now, ended = 1.0, []
    for stage, done, passed in sorted(looks, key=lambda each: STAGES.index(each[0])):
        now += passed
        for event in follower.take(look(stage, done), now):
            assert event.share is None or 0 <= event.share <= 1
            assert all(each is None or each >= 0 for each in (event.left, event.all_left, event.seconds, event.rate))
            assert event.planned is None or event.done <= event.planned
            record_of(event)
            words.line(event)
            if event.kind == "end":
                assert (event.share, event.left, event.done) == (1.0, 0.0, event.planned)
                ended.append(event.stage)
    assert len(ended) == len(set(ended))


def test_lines_are_few() -> None:
    said: list[str] = []

    class Listening(Lines):
        def show(self, event: Event) -> None:
            before = self._shown_at
            super().show(event)
            if self._shown_at != before:
                said.append(f"{event.at:.0f}")

    lines = Listening()
    lines.show(Event("begin", 0, "embed", 0, 1000, "items", 0.0))
    for at in range(1, 1000):
        lines.show(Event("progress", at, "embed", at, 1000, "items", at / 1000))
    assert said == ["2", *(str(at) for at in range(102, 1000, 100))]
    said.clear()
    lines.show(Event("begin", 0, "add", 0, 1000, "items", 0.0))
    for at in range(1, 100):
        lines.show(Event("progress", at, "add", 10 * at, 1000, "items", at / 100))
    assert said == ["2", "17", "32", "47", "62", "77", "92"]


def test_parts_are_followed_to_their_end() -> None:
    looks = iter([(0, None), (0, 4), (2, 4), (4, 4)])
    follower = PartsFollower("answer", lambda: next(looks))
    events = [event for at in range(4) for event in follower.take(float(at))]
    assert kinds(events) == [("begin", "answer"), *[("progress", "answer")] * 3, ("end", "answer")]
    assert events[3].left == 2 and events[3].rate == 1
    assert [*follower.take(9.0)] == [] and follower.stop(9.0) is None
