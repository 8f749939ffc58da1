"""This very Python, started anew: it finds the packages that this process runs, and none of the working directory's.

Python puts the working directory first among the places where it looks for what `-m` and `-c` name, so that a
`transforms.py` there would hide the package. `-P` leaves it out, and with it a checkout that is run from its own folder
without being installed: that folder then goes to PYTHONPATH, behind what is there.
"""

import os
import site
import sys
from pathlib import Path
from typing import Final

WORKER_NUMBER: Final = "PIXDEX_WORKER_NUMBER"
"""A variable of the environment: the number of a worker among those of its parent, counted from 0."""

_FOLDER: Final = Path(__file__).resolve().parents[1]


def command(*words: str) -> list[str]:
    """Returns the command line that starts it with these words, such as `-m` and a module."""
    return [sys.executable, "-P", *words]


def environment() -> dict[str, str]:
    """Returns the variables that it is started with."""
    path = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    # What is installed in another way than as a folder on the path is found by the new process, too.
    found_anyhow = [*path, *site.getsitepackages(), site.getusersitepackages()]
    if not _holds(found_anyhow) and _holds(sys.path):
        path.append(str(_FOLDER))
    return {**os.environ, **({"PYTHONPATH": os.pathsep.join(path)} if path else {})}


def _holds(places: list[str]) -> bool:
    return any(Path(each).resolve() == _FOLDER for each in places)
