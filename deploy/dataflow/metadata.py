"""Prints what the Flex Template tells of its parameters: the flags of all jobs, each once.

python deploy/dataflow/metadata.py > deploy/dataflow/metadata.json
"""

import argparse
import itertools
import json
import re
from dataclasses import replace
from typing import Any, Final

from pipelines.terminal.jobs import OPTIONS

BEAM_FLAGS: Final = {
    "sdk_container_image": "The image of the workers, which is the template's own.",
    "number_of_worker_harness_threads": "Tasks that a worker works on at a time (default 1).",
}
"""Flags of Beam that Dataflow does not set by itself, with their help."""

_OF_THIS_MACHINE: Final = ("workers", "dry_run", "metrics")
"""Flags of a job that do not go with Dataflow."""

_JOB: Final = {
    "name": "job",
    "label": "Job",
    "helpText": "build does everything; embed, train, add and merge stop behind their stage; reindex brings a root "
    "up to date, and takes neither sources nor an encoder (default build).",
    "isOptional": True,
    "regexes": [f"^({'|'.join(OPTIONS)})$"],
}


def parameters() -> list[dict[str, Any]]:
    """Returns one for the job, one for each of its flags, and those that are Beam's."""
    parser = argparse.ArgumentParser(add_help=False)
    described: set[str] = set()
    for group in dict.fromkeys(itertools.chain.from_iterable(OPTIONS.values())):
        # A flag that two jobs mean differently is described as the first of them does.
        new = tuple(flag for flag in group.flags if flag.name not in described)
        replace(group, flags=new).add_to(parser)
        described.update(flag.name for flag in new)
    jobs = [_parameter(action) for action in parser._actions if action.dest not in _OF_THIS_MACHINE]
    beam = [
        {"name": name, "label": _label(name), "helpText": text, "isOptional": name != "sdk_container_image"}
        for name, text in BEAM_FLAGS.items()
    ]
    return [_JOB, *jobs, *beam]


def _parameter(action: argparse.Action) -> dict[str, Any]:
    help_text = (action.help or "").replace("; repeatable", "; several are separated by |")
    parameter: dict[str, Any] = {
        "name": action.dest,
        "label": _label(action.dest),
        "helpText": f"{help_text[:1].upper()}{help_text[1:]}.",
        "isOptional": action.dest != "root",
    }
    if action.nargs == 0:
        parameter["regexes"] = ["^(true|false)$"]
    elif action.choices:
        parameter["regexes"] = [f"^({'|'.join(re.escape(str(choice)) for choice in action.choices)})$"]
    return parameter


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def main() -> None:
    """Prints it."""
    metadata = {
        "name": "pixdex",
        "description": "Builds a vector index of pictures, texts or ready embeddings.",
        "parameters": parameters(),
    }
    print(json.dumps(metadata, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
