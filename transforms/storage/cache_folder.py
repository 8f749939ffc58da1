"""Where this product keeps what it can make again: one folder of the user's cache."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Returns `$XDG_CACHE_HOME/pixdex`, by default `~/.cache/pixdex`; a variable that is no absolute path is ignored.

    The XDG base directory specification has it so. Nothing is made there yet.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "pixdex"  # noqa: PTH117 - a word
