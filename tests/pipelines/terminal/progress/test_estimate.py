"""Rates and times that are left, as arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.terminal.progress import estimate
from pipelines.terminal.progress.estimate import Part, Rate
from tests.examples import cheap

steps = st.lists(st.tuples(st.floats(0.01, 500), st.floats(0, 1e6)), min_size=1, max_size=40)
parts = st.lists(
    st.builds(
        Part,
        expected=st.none() | st.floats(0, 1e5),
        spent=st.floats(0, 1e5),
        before=st.floats(0, 1),
        share=st.none() | st.floats(0, 1),
        left=st.none() | st.floats(0, 1e6),
        counts=st.booleans(),
    ),
    max_size=12,
)


def fed(*looks: tuple[float, float]) -> Rate:
    rate = Rate()
    for at, done in looks:
        rate.add(at, done)
    return rate


@cheap
@given(steps, st.floats(0, 1e4))
def test_no_time_left_is_negative_and_no_rate_either(looks: list[tuple[float, float]], later: float) -> None:
    rate, at, done = Rate(), 100.0, 0.0
    for passed, more in looks:
        at, done = at + passed, done + more
        rate.add(at, done)
        for planned in (done, done + 1, 2 * done + 1e7):
            left = rate.left(at + later, planned)
            assert left is None or left >= 0
        per_second = rate.per_second(at + later)
        assert per_second is None or per_second >= 0


@cheap
@given(st.floats(0.1, 1000), st.floats(0.05, 60), st.integers(10, 60), st.floats(0, 1e6))
def test_of_steady_work_the_time_left_falls_to_nothing_and_what_was_there_does_not_count(
    a_step: float, seconds: float, count: int, before: float
) -> None:
    rate, planned, lefts = Rate(), before + count * a_step, []
    for number in range(count + 1):
        rate.add(number * seconds, before + number * a_step)
        if number:
            left = rate.left(number * seconds, planned)
            assert left == pytest.approx((count - number) * seconds, rel=1e-3, abs=1e-3 * seconds)
            assert rate.per_second(number * seconds) == pytest.approx(a_step / seconds, rel=1e-3)
            lefts.append(left or 0.0)
    assert lefts == sorted(lefts, reverse=True)


def test_while_a_step_is_at_work_the_time_left_goes_on_falling_and_when_it_is_late_the_rate_falls() -> None:
    rate = fed((0, 0), (60, 100), (120, 200))
    assert rate.left(120, 1000) == 480
    assert rate.left(150, 1000) == 450
    assert rate.per_second(180) == pytest.approx(100 / 60)
    assert rate.per_second(300) == pytest.approx(200 / 240)
    late = rate.left(300, 1000)
    assert late is not None and late > 480


def test_a_rate_is_of_the_last_half_minute_and_of_few_long_steps_all_the_same() -> None:
    slow_then_fast = fed(
        *((float(at), float(at)) for at in range(100)), *((100.0 + at, 100 + 50.0 * at) for at in range(40))
    )
    assert slow_then_fast.per_second(139) == pytest.approx(50, rel=0.1)
    assert fed((0, 0), (600, 1), (1200, 2), (1800, 3)).per_second(1800) == pytest.approx(1 / 600)


def test_what_goes_back_is_no_change() -> None:
    rate = fed((0, 5), (1, 10), (2, 7), (3, 10), (0.5, 99))
    assert rate.done == 10
    assert rate.per_second(1) == 5


@cheap
@given(parts)
def test_the_time_left_of_parts_is_never_negative_and_known_where_each_is(some: list[Part]) -> None:
    left = estimate.all_left(some)
    assert left is None or left >= 0
    if all(part.expected is not None for part in some):
        assert left is not None


def test_a_forecast_is_corrected_by_the_pace_that_was_seen() -> None:
    done = [Part(10, spent=20, share=1.0), Part(5, spent=10, share=1.0)]
    ahead = Part(30)
    left = estimate.all_left([*done, ahead])
    # Twice as long as expected, of which a third was seen; and 6.75 s of the forecast stand for its worth.
    assert left is not None and left == pytest.approx(30 * (30 + 6.75) / (15 + 6.75))
    assert estimate.all_left([*done, ahead, Part(0.1)]) == pytest.approx(left + 0.1)  # which is no work
    assert estimate.all_left([Part(30)]) == 30


def test_one_forecast_that_is_far_off_does_not_spoil_the_others() -> None:
    usual = [Part(2, spent=4, share=1.0)] * 4
    assert estimate.speed([*usual, Part(1, spent=40, share=1.0)]) == pytest.approx(2.1, rel=0.05)
    assert estimate.speed([*usual, Part(1, spent=40, share=0.0)]) == pytest.approx(2.1, rel=0.05)


def test_the_first_of_many_parts_says_little_of_the_others() -> None:
    first = Part(1, spent=3, share=1.0)
    assert estimate.speed([first, Part(9)]) == pytest.approx((3 + 1.5) / (1 + 1.5))
    assert estimate.speed([first]) == pytest.approx((3 + 0.25) / (1 + 0.25))


def test_of_what_was_there_before_nothing_is_learned() -> None:
    half_there = Part(10, spent=10, before=0.5, share=1.0)
    assert estimate.speed([half_there]) == pytest.approx(1.8, rel=0.05)
    assert estimate.speed([Part(10, spent=0, before=1.0, share=1.0)]) == 1


def test_from_a_fifth_of_a_part_on_only_its_own_rate_counts() -> None:
    assert estimate.left_of(Part(10, spent=10, share=0.1, left=90), 1.0) == pytest.approx((90 + 9) / 2)
    assert estimate.left_of(Part(10, spent=20, share=0.2, left=80), 1.0) == 80


def test_a_task_of_which_nothing_is_seen_is_never_said_to_be_done() -> None:
    begun = [estimate.left_of(Part(10, spent=spent, share=0.0), 1.0) for spent in (0.0, 4.0, 10.0, 60.0)]
    assert begun == [10, 6, 1.5, 9]
    assert estimate.speed([Part(10, spent=9, share=0.0)]) == 1
    assert estimate.speed([Part(10, spent=40, share=0.0)]) == pytest.approx(4, rel=0.1)


def test_the_pace_of_stages_that_say_nothing_of_others_does_not_count() -> None:
    assert estimate.speed([Part(10, spent=50, share=1.0, counts=False)]) == 1
