"""Which cases of a test every run tries, and which are left to the gate."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_gate(cases: Iterable[Any], quick: Iterable[Any]) -> list[Any]:
    """Returns cases for `parametrize`, all but the quick ones marked `gate`; a case of several values is a tuple."""
    tried = list(quick)
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if case in tried else pytest.mark.gate)
        for case in cases
    ]
