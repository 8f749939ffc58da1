"""Which cases of a test every run tries, and which are left to the gate."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_gate(cases: Iterable[Any], quick: Iterable[Any], slow: Iterable[Any] = ()) -> list[Any]:
    """Returns cases for `parametrize`, marked `gate` or `slow` where they are not quick; several values are a tuple."""
    tried, minutes = list(quick), list(slow)

    def marks(case: Any) -> Any:
        return () if case in tried else pytest.mark.slow if case in minutes else pytest.mark.gate

    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks(case)) for case in cases]
