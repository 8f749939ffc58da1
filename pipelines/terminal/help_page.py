"""What `--help` shows: of pixdex one screen, of a command a first screen for who begins, then all of it."""

import argparse
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

ROWS: Final = 24
COLUMNS: Final = 80
"""A screen, of which the last row is the prompt's."""

_FIRST: Final = {
    "build": (
        "pixdex build --root INDEX --images FOLDER \\",
        "    --encoder open_clip:ViT-B-32/laion2b_s34b_b79k",
        "pictures become an index",
    ),
    "search": ('pixdex search --root INDEX "a cat" --html a.html', "a page of what is found"),
    "serve": ("pixdex serve --root INDEX", "a page to search in"),
    "report": ("pixdex report --root INDEX", "a page of what is in it"),
}
"""The first commands that somebody runs, line by line, and what becomes of a folder of pictures."""

_GROUPS: Final = {
    "Begin": ("demo", "plan", "completion"),
    "Make": ("build", "embed", "train", "add", "merge", "reindex", "augment", "condense"),
    "Ask": ("search", "batch-search", "serve", "export"),
    "Trust": ("inspect", "report", "evaluate", "tune", "verify", "watch"),
    "Look after": ("hide", "unhide", "rollback", "gc"),
}
_OTHERS: Final = "More"

_OF_A_BUILD: Final = (*("--root", "--images", "--encoder", "--csv", "--image-column", "--text-column"),)
USUAL: Final = {
    **dict.fromkeys(("build", "embed", "train", "add", "merge"), _OF_A_BUILD),
    "reindex": ("--root", "--dry-run", "--max-gone-ratio", "--retrain", "--retry-rejects", "--workers", "--config"),
    "search": ("query", "--root", "--image", "--like", "-k", "--where", "--html", "--json"),
    "batch-search": ("--root", "--queries", "--output", "-k", "--columns", "--where", "--workers", "--config"),
    "evaluate": ("--root", "--output", "-k", "--num-queries", "--queries", "--judgements", "--label-column"),
    "tune": ("--root", "--target-recall", "--tail", "--num-queries", "-k", "--off"),
    "plan": ("--num-vectors", "--dim", "--index-key", "--workers", "--cores", "--worker-memory", "--root", "--json"),
}
"""Flags of the first screen, by weight, of commands with more than it has room for; of others the first are shown."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows a flag in one spelling; the others are read as well."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        if action.nargs == 0:
            return ", ".join(action.option_strings) if action.dest == "help" else action.option_strings[0]
        default = self._get_default_metavar_for_optional(action)
        return f"{action.option_strings[0]} {self._format_args(action, default)}"


def overview(commands: Mapping[str, str]) -> str:
    """Returns what `pixdex --help` prints: the shape of the work, on one screen.

    Args:
        commands: each with what it does; those that are known to no group are in one of their own.
    """
    steps = [step for command, step in _FIRST.items() if command in commands]
    room = max((len(line) for step in steps for line in step[:-1]), default=0)
    lines = [
        "pixdex turns pictures and texts into an index for vector search.",
        "",
        "usage: pixdex COMMAND [OPTIONS]",
        "",
        *(
            line
            for *before, last, says in steps
            for line in (*(f"  {each}" for each in before), f"  {last:<{room}}  {says}")
        ),
        "",
    ]
    groups = _grouped(commands)
    room = max(map(len, groups))
    for name, members in groups.items():
        indent = " " * (room + 4)
        lines += textwrap.wrap(
            "  ".join(members), COLUMNS, initial_indent=f"  {name:<{room}}  ", subsequent_indent=indent
        )
    lines += [
        "",
        "pixdex COMMAND --help    what a command does, with an example and its options",
        "pixdex help commands     what each does, in a line",
        "pixdex demo              everything at once, offline, in a minute",
    ]
    return "\n".join(lines)


def listing(commands: Mapping[str, str]) -> str:
    """Returns what `pixdex help commands` prints: each with a line, in groups."""
    room = max(map(len, commands))
    lines = []
    for name, members in _grouped(commands).items():
        lines += [name, *(f"  {command:<{room}}  {commands[command]}" for command in members), ""]
    return "\n".join(lines).rstrip()


def page(parser: argparse.ArgumentParser, job: str, manual: str) -> str:
    """Returns what the `--help` of a command prints.

    First what fits a screen: what it does, an example, and the options that are used most. Then all options in their
    groups, and what else its manual says.
    """
    summary, _, rest = manual.strip().partition("\n")
    bare = " ".join(
        f"[{action.metavar}{' ...' * (action.nargs == '*')}]" for action in parser._get_positional_actions()
    )
    head = [
        f"usage: pixdex {job} [OPTIONS] {bare}".rstrip(),
        "",
        *textwrap.wrap(summary, COLUMNS),
        "",
        *(line for line in _example(job, rest) if line),
        "",
    ]
    every = _sections(parser)
    if len(head) + every.count("\n") + 1 < ROWS:
        return "\n".join([*head, every, _rest(rest)]).rstrip() + "\n"
    told = f"All {_count(parser)} options follow, then more examples and what there is to know."
    usual = _usual(parser, USUAL.get(job, ()), ROWS - len(head) - len("\n\n\n"))
    return "\n".join([*head, usual, told, "", every, _rest(rest)]).rstrip() + "\n"


def _grouped(commands: Iterable[str]) -> dict[str, list[str]]:
    known = list(commands)
    grouped = {name: [command for command in members if command in known] for name, members in _GROUPS.items()}
    named = {command for members in _GROUPS.values() for command in members}
    grouped[_OTHERS] = [command for command in known if command not in named]
    return {name: members for name, members in grouped.items() if members}


def _example(job: str, manual: str) -> list[str]:
    """The first command of a manual that is one of the job, as it stands there, and its continuation."""
    found = re.search(rf"^    pixdex {re.escape(job)}\b.*(?:(?<=\\)\n.*)*", manual, re.MULTILINE)
    if found is None:
        return []
    words = re.sub(r"\s*\\\n\s*", " ", found[0].strip())
    if len(words) + 4 <= COLUMNS:
        return [f"    {words}"]
    word = r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+"
    lines = ["   "]
    for part in re.findall(rf"--?\w\S* (?!-){word}|{word}", words):  # a flag with its value, or a word
        if len(lines[-1]) + len(part) + len("  \\") > COLUMNS:
            lines[-1] += " \\"
            lines.append(f"        {part}")
        else:
            lines[-1] += f" {part}"
    return lines


def _sections(parser: argparse.ArgumentParser) -> str:
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        formatter.start_section(group.title)
        formatter.add_arguments([action for action in group._group_actions if action.dest != "help"])
        formatter.end_section()
    return formatter.format_help()


def _usual(parser: argparse.ArgumentParser, names: Sequence[str], rows: int) -> str:
    """The options of the first screen, as many as fit."""
    actions = {_name(action): action for action in parser._actions if action.dest != "help"}
    text = ""
    chosen: list[argparse.Action] = []
    for name in names or actions:
        formatter = parser._get_formatter()
        formatter.start_section("Used most")
        formatter.add_arguments([*chosen, actions[name]])
        formatter.end_section()
        longer = formatter.format_help()
        if longer.count("\n") <= rows:
            chosen.append(actions[name])
            text = longer
    return text


def _name(action: argparse.Action) -> str:
    return action.option_strings[0] if action.option_strings else action.dest


def _count(parser: argparse.ArgumentParser) -> int:
    return sum(1 for action in parser._actions if action.dest != "help")


def _rest(manual: str) -> str:
    text = manual.strip("\n").rstrip()
    return f"Manual:\n\n{text}" if text else ""
