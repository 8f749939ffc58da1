"""Examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


def modules_with_examples() -> list[str]:
    files = sorted(file for folder in ("pipelines", "transforms") for file in (REPOSITORY / folder).rglob("*.py"))
    return [_module(file) for file in files if ">>> " in file.read_text(encoding="utf-8")]


def _module(file: Path) -> str:
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_of_a_module_are_true(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted
    assert not outcome.failed
