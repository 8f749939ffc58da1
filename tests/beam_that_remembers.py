"""Beam asks the same questions thousands of times a graph; here it remembers the answers, which halves a small build.

It parses its flags anew for every step that looks at an option, and the signatures and the source of all methods of a
`DoFn` for every use of one; it notes the stack for every type it infers, and walks over all modules for the size of
every value that it keeps. That is seconds of a build, which only tests make by the hundred.
"""

from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from apache_beam.internal import pickler
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import statecache
from apache_beam.transforms import core, userstate
from apache_beam.typehints.decorators import IOTypeHints


def remember(patch: pytest.MonkeyPatch) -> None:
    """Makes Beam remember views of options, types and signatures of functions, and what state a `DoFn` keeps."""
    patch.setattr(PipelineOptions, "view_as", _remembered_view_as)
    patch.setattr(core, "get_function_args_defaults", _remembered_arguments)
    patch.setattr(userstate, "get_dofn_specs", _remembered_specs)
    patch.setattr(IOTypeHints, "from_callable", _remembered_types)
    patch.setattr(IOTypeHints, "_make_origin", lambda *_, **__: [])  # it goes into messages only
    patch.setattr(core, "_check_fn_use_yield_and_return", lambda _: False)  # ruff says it too
    patch.setattr(pickler, "roundtrip", lambda whole: whole)  # that it can be pickled is seen when it is
    patch.setattr(statecache, "get_deep_size", lambda *_: 1)  # for a limit of 100 MiB


_view_as = PipelineOptions.view_as
_views: WeakKeyDictionary[PipelineOptions, dict[type, Any]] = WeakKeyDictionary()


def _remembered_view_as(options: PipelineOptions, cls: type[PipelineOptions]) -> PipelineOptions:
    """All views of options of one class are alike: they share what is set."""
    views = _views.setdefault(options, {})
    if cls not in views:
        views[cls] = _view_as(options, cls)
    view: PipelineOptions = views[cls]
    return view


_arguments = core.get_function_args_defaults
_signatures: dict[tuple[object, bool], tuple[list[str], list[object]]] = {}


def _remembered_arguments(function: Any) -> tuple[list[str], list[object]]:
    """Names and defaults of a function's arguments, but for `self` of a method that is bound."""
    key = getattr(function, "__func__", function), hasattr(function, "__func__")
    if key not in _signatures:
        _signatures[key] = _arguments(function)
    names, defaults = _signatures[key]
    return list(names), list(defaults)


_types = IOTypeHints.from_callable
_types_of: dict[tuple[object, bool], IOTypeHints | None] = {}


def _remembered_types(function: Any) -> IOTypeHints | None:
    """Types of a function's arguments and results, but for `self` of a method that is bound."""
    key = getattr(function, "__func__", function), hasattr(function, "__func__")
    if key not in _types_of:
        _types_of[key] = _types(function)
    return _types_of[key]


_specs = userstate.get_dofn_specs
_specs_of: dict[object, tuple[set[Any], set[Any]]] = {}


def _remembered_specs(dofn: core.DoFn) -> tuple[set[Any], set[Any]]:
    """A class's methods say what state it keeps, but where an object has a method of its own."""
    if isinstance(vars(dofn).get("process"), MethodType):
        return _specs(dofn)
    if type(dofn) not in _specs_of:
        _specs_of[type(dofn)] = _specs(dofn)
    return _specs_of[type(dofn)]
