"""Makes the reader of PNG files do what a text inside them says: `abort` its process, or `sleep` for ever."""

import importlib.abc
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_READER = "PIL.PngImagePlugin"


class _Finder(importlib.abc.MetaPathFinder):
    """Changes the reader when it is imported: most processes never do."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _READER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _arm(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _arm(reader: Any) -> None:
    load = reader.PngImageFile.load_prepare

    def load_prepare(image: Any) -> None:
        order = image.info.get("pixdex-test")
        if order == "abort":
            os.abort()
        while order == "sleep":
            time.sleep(3600)
        load(image)

    reader.PngImageFile.load_prepare = load_prepare


sys.meta_path.insert(0, _Finder())
