"""Pictures that end or stop whoever decodes them, in processes that have this folder on PYTHONPATH.

The real picture reader opens them; `sitecustomize`, which Python imports when it starts, is the double behind it.
"""

import io
import os
from pathlib import Path
from typing import Final, Literal

import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo

FOLDER: Final = str(Path(__file__).parent)

ORDER: Final = "pixdex-test"
"""The text of a PNG that says what its decoder is to do."""


def picture(order: Literal["abort", "sleep"]) -> bytes:
    """Returns a PNG whose pixels are never seen."""
    info, file = PngInfo(), io.BytesIO()
    info.add_text(ORDER, order)
    PIL.Image.new("RGB", (10, 12), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def arm(patch: pytest.MonkeyPatch) -> None:
    """Makes them deadly in every process that is started from now on."""
    path = [FOLDER, *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(path))
