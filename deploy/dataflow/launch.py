"""What the launcher of the Flex Template runs: a job of pixdex, with the template's parameters as its flags.

A parameter is a name with one text, and some flags are not like that. `job` names the job. A flag that can be repeated
gets all its values in one parameter, separated by `|`. A flag without a value is given as `true` or `false`.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from pipelines import cli
from pipelines.terminal import console
from pipelines.terminal.jobs import OPTIONS
from transforms.errors import UsageError

SEPARATOR: Final = "|"
_JOB: Final = "--job="
_RUNNER: Final = "--runner=DataflowRunner"


def words_of(parameters: Sequence[str]) -> list[str]:
    """Returns the command line, the job first, of parameters as `--name=value`.

    Raises:
        UsageError: there is no such job, a parameter is one of other jobs, or a flag without a value has one.
    """
    job = next((each.removeprefix(_JOB) for each in reversed(parameters) if each.startswith(_JOB)), "build")
    if job not in OPTIONS:
        raise UsageError(f"there is no job {job!r}: give one of {', '.join(OPTIONS)}")
    known = _flags(job)
    words = []
    for parameter in parameters:
        flag, given, value = parameter.partition("=")
        action = known.get(flag)
        if parameter.startswith(_JOB):
            continue
        if action is None and (others := [other for other in OPTIONS if flag in _flags(other)]):
            raise UsageError(
                f"{flag.removeprefix('--')} is a parameter of {', '.join(others)}: leave it out of job {job}"
            )
        if not given or action is None:
            words.append(parameter)
        elif action.nargs == 0:
            if value not in ("true", "false"):
                raise UsageError(f"{flag.removeprefix('--')} is {value!r}: give true or false")
            words += [flag] * (value == "true")
        elif isinstance(action, argparse._AppendAction):
            words += [f"{flag}={each}" for each in value.split(SEPARATOR)]
        else:
            words.append(parameter)
    if not any(word.partition("=")[0] == "--runner" for word in words):
        words.append(_RUNNER)
    return [job, *words]


def _flags(job: str) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for group in OPTIONS[job]:
        group.add_to(parser)
    return parser._option_string_actions


def main() -> int:
    """Runs the job; returns its exit code."""
    words: list[str] = []

    def read() -> int:
        words.extend(words_of(sys.argv[1:]))
        return console.DONE

    return console.run(read) or cli.main(words)


if __name__ == "__main__":
    sys.exit(main())
