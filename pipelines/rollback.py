"""Goes back to an earlier generation, by publishing it anew under the next number.

    pixdex inspect --root ./photos            # which generations are there
    pixdex rollback --root ./photos --to 7

Searches that open the root from now on see what generation 7 held. Nothing is lost: the generations between stay until
pixdex gc drops them, and what they added is new again for the next reindex. The last line on stdout is one JSON object:
{"generation", "rolled_back_to"}.
"""

import sys
from collections.abc import Sequence
from typing import Final

from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Flag, Group, positive
from pipelines.terminal.options import ROOT, root_of
from transforms.errors import UsageError
from transforms.generations import published
from transforms.generations.published import open_generation
from transforms.runs import beginning
from transforms.upkeep import lease, rollback

OPTIONS: Final = (
    ROOT,
    Group("RollbackOptions", "Where to", (Flag("--to", "G", "number of the generation to go back to", positive),)),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: roll_back(arguments))


def roll_back(argv: Sequence[str]) -> int:
    """Parses, checks, publishes and says."""
    options = command_line.parse("rollback", __doc__, argv, OPTIONS)
    store = root_of(options)
    if options.to is None:
        raise UsageError("--to is missing: name the generation to go back to; pixdex inspect lists them")
    earlier = open_generation(store, options.to)
    with lease.held(store, "rollback"):
        beginning.check_none_unfinished(store)
        if published.numbers(store)[-1] == options.to:
            console.say(f"{store.url}: generation {options.to} is the current one: nothing to do")
            console.show_json({"generation": options.to, "rolled_back_to": options.to})
            return console.DONE
        again = rollback.roll_back(store, earlier)
    console.say(f"{store.url}: generation {again.generation} holds what generation {options.to} held")
    console.show_json({"generation": again.generation, "rolled_back_to": options.to})
    return console.DONE


if __name__ == "__main__":
    process.run(main)
