"""The command `pixdex`, as it is installed: it sees to it that what it runs is its own, and hands the line on.

A `transforms.py` or `pipelines.py` on PYTHONPATH, where people put encoders of their own, is found before the package
of that name. So this lies in a module that is called after the project, and asks where both are before it imports them.
"""

import importlib.util
import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Runs one command; returns its exit code."""
    for name in ("pipelines", "transforms"):
        if other := in_the_way(name):
            line = f"{other} hides the package {name} of pixdex: rename it, or take its folder off PYTHONPATH"
            print(f"pixdex: {line}", file=sys.stderr)  # noqa: T201 - the console that prints is in that package
            return 2
    from pipelines import cli  # noqa: PLC0415 - only now is it known to be the one beside this file

    return cli.main()


def in_the_way(name: str) -> str | None:
    """Returns the file or folder that Python takes for a package beside this one, or None: it takes the package."""
    package = _FOLDER / name
    spec = importlib.util.find_spec(name)
    place = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    return place if place and Path(place).resolve() not in (package, package / "__init__.py") else None


if __name__ == "__main__":
    sys.exit(main())
