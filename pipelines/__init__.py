"""What a person runs: one file a job, with its options, the wiring of its graph and `main(argv)`."""

# More modules than other rooms may have: each is a command of `pixdex --help`, by its name, and `python -m
# pipelines.NAME` is a contract. Whoever looks for a command finds it here; what several share is in the rooms below.

import importlib.util
import logging
import os
import sys
from pathlib import Path

# Importing Beam without its Google Cloud extra logs a warning that means nothing here, before a job can configure logs.
logging.getLogger().addFilter(lambda record: "apitools not found" not in str(record.msg))

# Threads of torch and faiss that wait for each other sleep, instead of keeping a core busy that another needs: beside
# threads that decode, the demo encoder took twice the time, and five times on a machine with other work. Both read it
# when they are loaded, so it is said before. Workers that Beam starts by itself have it from their image.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _in_the_way() -> str | None:
    """The file or folder that Python takes for our `transforms`; None: it takes ours."""
    package = Path(__file__).resolve().parents[1] / "transforms"
    spec = importlib.util.find_spec("transforms")
    place = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    return place if place and Path(place).resolve() not in (package, package / "__init__.py") else None


# `pixdex` has looked before it imports this. `python -m pipelines…` has not, and it has put the working directory where
# packages are looked for, which is where one may happen to have a `transforms.py`.
if sys.argv[:1] == ["-m"] and _in_the_way():
    if not sys.flags.safe_path:
        del sys.path[0]
    if _other := _in_the_way():
        _line = f"{_other} hides the package transforms of pixdex: rename it, or take its folder off PYTHONPATH"
        print(f"pixdex: {_line}", file=sys.stderr)  # noqa: T201 - the console that prints needs that package
        raise SystemExit(2)
