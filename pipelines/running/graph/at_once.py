"""Works a graph off in this process while it is wired: a step is done when it is put behind the one before it.

Beam's own in-process runner writes a graph down, takes it apart, and hands every element from worker to worker as
bytes, one step after the other: that is most of what a small build takes. Here the same steps are done in the same
order, with elements that are objects, and no graph is kept. It knows what the stages are made of, and no more of Beam:
no windows, no timers, no state.

Memory: all elements that a step makes are held until nothing that is wired refers to them any more. Of stages these are
records and names of tasks, never vectors or pictures.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSideInput, PCollection, TaggedOutput
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms.combiners import Count
from apache_beam.transforms.core import Windowing, _DoFnParam, _MultiParDo
from apache_beam.transforms.ptransform import _NamedPTransform
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

_EVERYWHERE: Final = Windowing(GlobalWindows())

Transform = beam.PTransform[Any, Any]


def work_off(wire: Callable[[beam.Pipeline], object]) -> None:
    """Works a graph off; what a task raises is raised as it is.

    Args:
        wire: puts the steps into a pipeline.

    Raises:
        NotImplementedError: a step is of a kind that no stage is made of.
    """
    wire(_AtOnce())


class _Elements(PCollection[Any]):
    """Elements that are there."""

    def __init__(self, pipeline: "_AtOnce", elements: list[Any]) -> None:
        super().__init__(pipeline, windowing=_EVERYWHERE)
        self.elements = elements


class _Outputs(dict[str | None, _Elements]):
    """The outputs of a step that has several, by their tags."""

    def __missing__(self, tag: str | None) -> _Elements:
        raise KeyError(f"no output is called {tag}")


class _AtOnce(beam.Pipeline):
    """Takes the steps of a graph, and does each at once."""

    def __init__(self) -> None:
        super().__init__(runner=PipelineRunner(), options=PipelineOptions([]))

    def apply(self, transform: Transform, pvalueish: Any = None, label: str | None = None) -> Any:
        """Does a step, or all that it is made of."""
        if isinstance(transform, _NamedPTransform):
            transform = transform.transform
        if isinstance(transform, _MultiParDo):
            return self._outputs(transform, pvalueish)
        made = _made(transform, pvalueish)
        return transform.expand(pvalueish) if made is None else _Elements(self, made)

    def _outputs(self, transform: Any, given: _Elements) -> _Outputs:
        by_tag: dict[str | None, list[Any]] = {tag: [] for tag in (transform._main_tag, *transform._tags)}
        for element in _done(transform._do_transform, given.elements):
            if isinstance(element, TaggedOutput):
                by_tag[element.tag].append(element.value)
            else:
                by_tag[transform._main_tag].append(element)
        return _Outputs({tag: _Elements(self, elements) for tag, elements in by_tag.items()})


def _made(transform: Transform, given: Any) -> list[Any] | None:
    """The elements that a step makes of those that it is given; None: it is made of others."""
    made: Iterable[Any]
    match transform:
        case beam.ParDo():
            made = list(_done(transform, given.elements))
            if any(isinstance(element, TaggedOutput) for element in made):
                raise NotImplementedError(f"{type(transform.fn).__name__} has an output that the step does not name")
        case beam.Impulse():
            made = [b""]
        case beam.Create():
            made = transform.values
        case beam.Reshuffle():
            made = given.elements
        case beam.Flatten():
            made = itertools.chain.from_iterable(one.elements for one in given)
        case beam.GroupByKey():
            made = _grouped(given.elements).items()
        case beam.CoGroupByKey():
            made = _joined(given)
        case Count.Globally():
            made = [len(given.elements)]
        case _:
            return None
    return list(made)


def _done(transform: beam.ParDo, elements: Iterable[Any]) -> Iterator[Any]:
    """Does the task of a step for each element, and yields what comes of it."""
    task = transform.fn
    if any(isinstance(default, _DoFnParam) for default in task.get_function_arguments("process")[1]):
        raise NotImplementedError(f"{type(task).__name__} asks for more of Beam than elements")
    args, kwargs = transform.raw_side_inputs
    beside = [_view(one) for one in args], {name: _view(one) for name, one in kwargs.items()}
    task.setup()
    try:
        task.start_bundle()
        for element in elements:
            yield from task.process(element, *beside[0], **beside[1]) or ()
        for last in task.finish_bundle() or ():
            yield last.value if isinstance(last, WindowedValue) else last
    finally:
        task.teardown()


def _view(given: Any) -> Any:
    """What a task gets of something that stands beside its elements."""
    if not isinstance(given, AsSideInput):
        return given
    elements: Any = given.pvalue
    return given._from_runtime_iterable(elements.elements, given._view_options())


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _joined(given: Mapping[str, _Elements]) -> list[Any]:
    grouped = {tag: _grouped(one.elements) for tag, one in given.items()}
    keys = dict.fromkeys(key for groups in grouped.values() for key in groups)
    return [(key, {tag: groups.get(key, []) for tag, groups in grouped.items()}) for key in keys]
