"""Prints a script that lets a shell complete commands, flags, their values and files.

For bash, now and in every shell to come:

    pixdex completion bash > ~/.local/share/bash-completion/completions/pixdex

For zsh, in a folder of $fpath, and for fish:

    pixdex completion zsh > ~/.zfunc/_pixdex
    pixdex completion fish > ~/.config/fish/completions/pixdex.fish

The script is made of the commands and flags that this version has, by shtab, and runs nothing when it completes: make
it anew after an upgrade. bash reads the file by itself where its package bash-completion is installed; elsewhere write
`source FILE` in ~/.bashrc.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from pipelines.terminal import command_line, console, process
from pipelines.terminal.command_line import CONFIG
from pipelines.terminal.flags import Flag, Group
from transforms.errors import UsageError

SHELLS: Final = ("bash", "zsh", "fish")

OPTIONS: Final = (
    Group("CompletionOptions", "For which shell", (Flag("shell", "SHELL", f"one of {', '.join(SHELLS)}", nargs="?"),)),
)

_FOLDERS: Final = ("DIR", "D", "ROOT", "NEWROOT", "FOLDER")
_FILES: Final = ("FILE", "GLOB", "PATH")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: complete(arguments))


def complete(argv: Sequence[str]) -> int:
    """Parses, and prints the script."""
    options = command_line.parse("completion", __doc__, argv, OPTIONS)
    if options.shell not in SHELLS:
        named = f"there is no completion for {options.shell}" if options.shell else "name the shell"
        raise UsageError(f"{named}: pixdex completion {', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    import shtab  # noqa: PLC0415 - only now, since cli names this module's options, too

    console.show(str(shtab.complete(_everything(), options.shell)).rstrip())
    return console.DONE


def _everything() -> argparse.ArgumentParser:
    """A parser of the whole of `pixdex`, which nobody parses with: commands, and the flags of each."""
    from pipelines.cli import COMMANDS  # noqa: PLC0415 - it imports this module, when it is called

    parser = argparse.ArgumentParser(prog="pixdex")
    parser.add_argument("--version", action="version", version="", help="which one it is")
    commands = parser.add_subparsers(dest="command")
    for command, summary in COMMANDS.items():
        # A stop at the end of each of many lines says nothing.
        job = commands.add_parser(command, help=summary.rstrip("."), add_help=True)
        groups: Sequence[Group] = importlib.import_module(f"pipelines.{command.replace('-', '_')}").OPTIONS
        for group in (*groups, CONFIG):
            for flag in group.flags:
                _add(flag, job)
    about = commands.add_parser("help", help="What a command does")
    about.add_argument("about", nargs="?", choices=(*COMMANDS, "commands"))
    return parser


def _add(flag: Flag, parser: argparse.ArgumentParser) -> None:
    """Adds a flag in one spelling, and what its value may be."""
    import shtab  # noqa: PLC0415 - as above

    known = set(parser._actions)
    flag.add_to(parser)
    (action,) = set(parser._actions) - known
    action.option_strings = action.option_strings[:1]
    if flag.name == "shell":
        action.choices = SHELLS
    elif action.nargs != 0 and action.choices is None:
        kind = (flag.metavar or "").rstrip(",…").split(".")[0]
        if kind in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]  # shtab reads it there
        elif kind in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # likewise


if __name__ == "__main__":
    process.run(main)
