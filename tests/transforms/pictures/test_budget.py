"""The budget bounds what is in flight, and lets everyone through in the end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.pictures.budget import DecodeBudget, ShareReleasedError


class _Watched:
    """Counts how much is in flight, and remembers the most."""

    def __init__(self, budget: DecodeBudget) -> None:
        self.budget, self.lock, self.now, self.most, self.together = budget, threading.Lock(), 0, 0, 0
        self.inside = 0

    def work(self, amount: int) -> None:
        with self.budget.take(amount):
            with self.lock:
                self.now, self.inside = self.now + amount, self.inside + 1
                self.most = max(self.most, self.now if self.inside > 1 else 0)
                self.together = max(self.together, self.inside)
            time.sleep(0.001)
            with self.lock:
                self.now, self.inside = self.now - amount, self.inside - 1


def test_what_is_in_flight_stays_under_the_budget() -> None:
    watched = _Watched(DecodeBudget(100))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(watched.work, [10, 60, 30, 45] * 30))

    assert watched.most <= 100
    assert watched.together > 1


def test_what_exceeds_the_whole_budget_goes_alone() -> None:
    watched = _Watched(DecodeBudget(100))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(watched.work, [1000, 20, 20, 20] * 20))

    assert watched.most <= 100


def test_small_ones_do_not_overtake_a_large_one_for_ever() -> None:
    budget = DecodeBudget(100)
    order: list[str] = []

    def take(name: str, amount: int) -> None:
        with budget.take(amount):
            order.append(name)

    with budget.take(50):
        threads = [threading.Thread(target=take, args=job) for job in [("large", 100), ("small", 1)]]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        assert order == []
    for thread in threads:
        thread.join()

    assert order == ["large", "small"]


def test_a_failure_gives_its_share_back() -> None:
    budget = DecodeBudget(100)
    with pytest.raises(OSError, match="broken"), budget.take(100):
        raise OSError("broken")

    with budget.take(100):
        pass


# --- shares that grow ---


def test_what_a_share_takes_more_is_counted_while_it_has_it() -> None:
    budget = DecodeBudget(100)
    with budget.take(10), budget.take(40) as share:
        with share.take(50):
            assert share.held == 90
            assert not budget._fits(1)
        assert budget._fits(50)

    assert budget._fits(100)


def test_shares_that_all_want_more_do_not_wait_for_each_other_for_ever() -> None:
    budget = DecodeBudget(100)

    def work(number: int) -> int:
        with budget.take(25) as share, share.take(60):
            return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(400))) == list(range(400))


def test_a_share_that_is_given_up_holds_nobody_up() -> None:
    budget = DecodeBudget(100)
    with budget.take(100) as lost:
        lost.release()
        with budget.take(100) as share:
            assert (share.held, lost.held) == (100, 0)
        with pytest.raises(ShareReleasedError), lost.take(50):
            raise AssertionError("it would not be counted")

    assert budget._fits(100)
