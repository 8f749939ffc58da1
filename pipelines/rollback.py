"""Goes back to an earlier generation, by publishing it anew under the next number.

    pixdex inspect --root ./photos            # which generations are there
    pixdex rollback --root ./photos --to 7

Searches that open the root from now on see what generation 7 held. Nothing is lost: the generations between stay until
pixdex gc drops them, and what they added is new again for the next reindex. The last line on stdout is one JSON object:
{"generation", "rolled_back_to"}.
"""

import argparse
import sys
from collections.abc import Sequence

from pipelines.terminal import console, flags, options
from transforms.errors import UsageError
from transforms.generations import published
from transforms.generations.published import open_generation
from transforms.runs import beginning
from transforms.upkeep import lease, rollback


class RollbackOptions(options.RootOptions):
    """Where to."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        flags.add(parser, "--to", type=flags.positive, metavar="G", help="number of the generation to go back to")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: roll_back(arguments))


def roll_back(argv: Sequence[str]) -> int:
    """Parses, checks, publishes and says."""
    own, beam_flags = options.parse("rollback", __doc__, argv, (options.RootOptions, RollbackOptions))
    options.refuse_beam_flags(beam_flags)
    store = options.root_of(own)
    if own.to is None:
        raise UsageError("--to is missing: name the generation to go back to; pixdex inspect lists them")
    earlier = open_generation(store, own.to)
    with lease.held(store, "rollback"):
        unfinished = beginning.unfinished(store)
        if unfinished is not None:
            raise UsageError(
                f"{store.url} has an unfinished run of generation {unfinished.generation}: finish it with its own "
                "command, or give it up with --abandon-plan"
            )
        if published.numbers(store)[-1] == own.to:
            console.say(f"{store.url}: generation {own.to} is the current one: nothing to do")
            console.show_json({"generation": own.to, "rolled_back_to": own.to})
            return console.DONE
        again = rollback.roll_back(store, earlier)
    console.say(f"{store.url}: generation {again.generation} holds what generation {own.to} held")
    console.show_json({"generation": again.generation, "rolled_back_to": own.to})
    return console.DONE


if __name__ == "__main__":
    sys.exit(main())
