"""Whose turn it is at a host, by a clock that only waiting moves."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.web import turns
from transforms.web.faults import LONGEST_WAIT, Fault, WebError
from transforms.web.turns import REFUSALS, REFUSED_SECONDS, Turns

BUSY = Fault("HTTPError", "429 Too Many Requests", "retry", is_of_host=True)


@dataclass
class Clock:
    """Goes on when somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def moments(taken: Turns, clock: Clock, host: str, count: int) -> list[float]:
    """When each of several turns, one after the other, begins."""
    found = []
    for _ in range(count):
        with taken.turn(host):
            found.append(clock.now)
    return found


@given(st.floats(0.01, 1000), st.integers(1, 30))
def test_turns_of_a_host_begin_no_more_often_than_is_allowed(rate: float, count: int) -> None:
    clock = Clock()
    found = moments(Turns(4, rate, clock, clock.sleep), clock, "a", count)
    assert all(later - sooner >= 0.999 / rate for sooner, later in itertools.pairwise(found))
    assert found[-1] - found[0] <= 1.001 * (count - 1) / rate


def test_without_a_rate_nobody_waits_and_hosts_do_not_wait_for_each_other(clock: Clock) -> None:
    moments(Turns(4, None, clock, clock.sleep), clock, "a", 100)
    assert clock.slept == []
    taken = Turns(4, 1, clock, clock.sleep)
    for host in "abcdef":
        moments(taken, clock, host, 1)
    assert clock.slept == []


def test_a_host_that_wants_to_be_left_alone_is_but_no_longer_than_a_minute(clock: Clock) -> None:
    taken = Turns(4, None, clock, clock.sleep)
    taken.hold("a", 7)
    taken.hold("a", 3)
    assert moments(taken, clock, "b", 1) == [1000]
    assert moments(taken, clock, "a", 1) == [1007]
    taken.hold("a", 1e9)
    assert moments(taken, clock, "a", 1) == [1007 + LONGEST_WAIT]


def test_a_host_has_so_many_turns_at_once() -> None:
    taken, most, now, lock = Turns(3), [0], [0], threading.Lock()
    together = threading.Barrier(3)

    def work() -> None:
        with taken.turn("a"):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            together.wait(5)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [3]


def refuse(taken: Turns, clock: Clock, seconds: float, times: int = REFUSALS) -> None:
    for _ in range(times):
        assert taken.refused("a", BUSY) > 0
        clock.now += seconds / (times - 1)


def test_a_host_that_refuses_everybody_for_long_is_not_waited_for(clock: Clock) -> None:
    taken = Turns(4, None, clock, clock.sleep)
    refuse(taken, clock, REFUSED_SECONDS + 1)
    assert taken.is_down("a") and not taken.is_down("b")
    taken.refused("a", BUSY)
    with pytest.raises(WebError, match="429 Too Many Requests"), taken.turn("a"):
        pass
    assert clock.slept == []
    clock.now += LONGEST_WAIT
    assert moments(taken, clock, "a", 1) == [clock.now]  # one may look whether it is back
    taken.answered("a")
    assert not taken.is_down("a")


FEW: dict[str, Callable[[Turns, Clock], None]] = {
    "within a moment": lambda taken, clock: refuse(taken, clock, REFUSED_SECONDS / 2),
    "a few times": lambda taken, clock: refuse(taken, clock, 10 * REFUSED_SECONDS, REFUSALS - 1),
}


@pytest.mark.parametrize("how", FEW)
def test_one_that_refuses_for_a_moment_or_a_few_times_is_waited_for(how: str, clock: Clock) -> None:
    taken = Turns(4, None, clock, clock.sleep)
    FEW[how](taken, clock)
    taken.hold("a", 5)
    assert not taken.is_down("a")
    assert moments(taken, clock, "a", 1)
    assert sum(clock.slept) == 5


def test_hosts_that_nobody_asks_any_more_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "HOSTS_KEPT", 10)
    taken = Turns(4, None, clock, clock.sleep)
    with taken.turn("kept"):
        for number in range(100):
            moments(taken, clock, f"h{number}", 1)
        assert len(taken._hosts) == 10 and "kept" in taken._hosts
