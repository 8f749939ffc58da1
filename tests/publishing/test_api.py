"""The names of `import pixdex`: documented as they are, typed, and an example that works."""

import ast
import dataclasses
import inspect
import re

import pytest

import pixdex
from tests.conftest import REPOSITORY
from transforms.queries import root as root_module
from transforms.search import hits as hits_module

DOCUMENT = (REPOSITORY / "pipelines" / "README.md").read_text(encoding="utf-8")
SIGNATURES, EXAMPLE = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def classes(source: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def names(node: ast.ClassDef) -> set[str]:
    """Public methods and fields, and `__init__`."""
    said = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    said |= {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }
    return {name for name in said if not name.startswith("_") or name == "__init__"}


def spelled(node: ast.ClassDef, name: str) -> str:
    """A signature, or a field, without its body; annotations in quotes are as good as without."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == name:
            decorators = [ast.unparse(each) for each in part.decorator_list]
            text = f"{decorators} {ast.unparse(part.args)} -> {part.returns and ast.unparse(part.returns)}"
            break
        if isinstance(part, ast.AnnAssign) and ast.unparse(part.target) == name:
            text = ast.unparse(part)
            break
    else:
        raise AssertionError(f"{node.name} has no {name}")
    return re.sub(r"(?<=[:>] )'([^']*)'", r"\1", text)


DOCUMENTED = classes(SIGNATURES)
REAL = {**classes(inspect.getsource(root_module)), **classes(inspect.getsource(hits_module))}


@pytest.mark.parametrize("name", ["Root", "How", "Hit"])
def test_what_is_documented_is_what_there_is(name: str) -> None:
    documented, real = DOCUMENTED[name], REAL[name]
    assert names(documented) == names(real) - (set() if "__init__" in names(documented) else {"__init__"})
    for each in names(documented):
        assert spelled(documented, each) == spelled(real, each)


def test_a_signature_that_differs_would_be_seen() -> None:
    (real,) = classes("class A:\n    def f(self, k: 'int' = 3) -> 'int': ...\n").values()
    for same, text in ((True, "self, k: int = 3"), (False, "self, k: int = 4"), (False, "self, *, k: int = 3")):
        (other,) = classes(f"class A:\n    def f({text}) -> int: ...\n").values()
        assert (spelled(other, "f") == spelled(real, "f")) is same


def test_the_names_of_the_module_are_those_that_are_documented() -> None:
    assert set(pixdex.__all__) == {"Hit", "PixdexError", "Root", "UsageError", "__version__", "open"}
    assert all(f"pixdex.{name}" in DOCUMENT for name in pixdex.__all__)
    assert pixdex.open is pixdex.Root and issubclass(pixdex.UsageError, pixdex.PixdexError)
    assert set(pixdex.__all__) <= set(dir(pixdex))
    assert all(field.name in names(DOCUMENTED["Hit"]) for field in dataclasses.fields(pixdex.Hit))


def test_the_example_is_one_that_mypy_reads() -> None:
    file = REPOSITORY / "tests" / "publishing" / "example_of_the_api.py"
    docstring, _, code = file.read_text(encoding="utf-8").partition("\n\n")
    assert docstring.startswith('"""') and code == EXAMPLE
