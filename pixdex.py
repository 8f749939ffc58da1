"""pixdex for programs, `import pixdex`, and the command `pixdex`, as it is installed.

    root = pixdex.open("./emoji")
    for hit in root.search("a red circle", k=5):
        print(hit.score, hit.uri)

Names come from `transforms.queries`, when they are first asked for. The command sees to it that what it runs is its
own, and hands the line on.

A `transforms.py` or `pipelines.py` on PYTHONPATH, where people put encoders of their own, is found before the package
of that name. So this lies in a module that is called after the project, and asks where both are before it imports them.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from transforms.errors import PixdexError, UsageError
    from transforms.queries.root import Root
    from transforms.search.hits import Hit

    open = Root

    __version__: str

__all__ = ["Hit", "PixdexError", "Root", "UsageError", "__version__", "open"]

_PLACES = {
    "__version__": ("pipelines.cli", "version"),
    "Hit": ("transforms.search.hits", "Hit"),
    "PixdexError": ("transforms.errors", "PixdexError"),
    "Root": ("transforms.queries.root", "Root"),
    "UsageError": ("transforms.errors", "UsageError"),
    "open": ("transforms.queries.root", "Root"),
}

_FOLDER = Path(__file__).resolve().parent


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    if line := _hidden(module.partition(".")[0], "transforms"):
        raise ImportError(line)
    found = getattr(importlib.import_module(module), attribute)
    return found() if name == "__version__" else found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})


def main() -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    if line := _hidden("pipelines", "transforms"):
        print(f"pixdex: {line}", file=sys.stderr)  # noqa: T201 - the console that prints is in that package
        sys.exit(2)
    from pipelines import cli  # noqa: PLC0415 - only now is it known to be the one beside this file
    from pipelines.terminal import process  # noqa: PLC0415 - likewise

    process.run(cli.main)


def _hidden(*packages: str) -> str | None:
    """Says what hides a package of pixdex, if anything does."""
    for name in packages:
        if other := in_the_way(name):
            return f"{other} hides the package {name} of pixdex: rename it, or take its folder off PYTHONPATH"
    return None


def in_the_way(name: str) -> str | None:
    """Returns the file or folder that Python takes for a package beside this one, or None: it takes the package."""
    package = _FOLDER / name
    spec = importlib.util.find_spec(name)
    place = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    return place if place and Path(place).resolve() not in (package, package / "__init__.py") else None


if __name__ == "__main__":
    main()
