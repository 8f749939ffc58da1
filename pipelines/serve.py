"""Serves a root over HTTP: a page for people, and JSON for programs.

    pixdex serve --root ./emoji

    pixdex serve --root ./emoji --port 8080 --max-upload 4M --timeout 10

Open the address that it says. The page searches by text, by a picture that is dropped, pasted or chosen, and by a
result (like this); it has the conditions of pixdex search, and its state is in its address. For programs:

    curl -s http://127.0.0.1:8765/api/search -H 'content-type: application/json' -d '{"text": "a red circle", "k": 3}'

POST /api/search takes one of text, image (the file, in base64), vector and key (of an item), and k, offset, where,
modality, min_score, minus, group_by, per_group and dedup; it answers as search --json does. GET /api/items/ID/picture
shows the picture of a result, as a small JPEG or PNG (?size=, up to 1024). GET /healthz says which generation answers,
and whether it is the newest; GET /metrics is for Prometheus; GET /openapi.json describes all of it.

Only this machine reaches it unless --host says otherwise (0.0.0.0: everybody who reaches the machine): it has no
password, so put what has one before it. A browser is led nowhere by a name that somebody else has for this machine:
it answers to localhost, --host, the machine's own name and, unless it listens on loopback, any IP address; each other
name that people use, as that of a proxy before it, is said by --allow-host photos.example. It only reads.

A generation that is published meanwhile, by reindex, hide or rollback, is opened beside the one that answers and takes
its place within --refresh seconds; no request is dropped, and one that cannot be opened leaves the other where it is.

What is asked at once beyond --max-concurrency gets 503, what takes longer than --timeout 504, a picture larger than
--max-upload 413. Each search takes one core (--threads of them at once); the encoder takes one query after the other.
Whose class the encoder is, and which pictures are read, is as of pixdex search (--encoder, --trust-uris).

It needs the extra `serve`: pip install -e '.[serve]'. The last line on stdout, when it listens, is one JSON object:
{"url"}; until then the port refuses connections. It ends at Ctrl-C with exit code 130, at SIGTERM with 0, when what was
asked is answered; 20 s later, even if something is not, as a picture on a mount that does not answer.
"""

import importlib.util
import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pipelines.terminal import command_line, console, process
from pipelines.terminal.flags import Flag, Group, positive, seconds, size, threads
from pipelines.terminal.options import DEVICE, ENCODER_OF_ROOT, ROOT, TRUST, root_of
from transforms.errors import UsageError
from transforms.serving import hosts

if TYPE_CHECKING:
    from transforms.serving.opened import Opened

_NEEDED: Final = ("fastapi", "uvicorn", "prometheus_client")
_HOSTED_SECONDS: Final = 10.0


def _name(text: str) -> str:
    """Reads a name of a host, for argparse."""
    if not hosts.is_name(text):
        raise ArgumentTypeError(f"{text[:80]!r} is no name of a host, as photos.example: leave out scheme and port")
    return text.lower()


def _port(text: str) -> int:
    """Reads a port, for argparse."""
    if not (text.isascii() and text.isdecimal()) or not int(text[:6]) < 1 << 16:
        raise ArgumentTypeError(f"{text[:40]!r} is not a port, from 0 (any that is free) to 65535")
    return int(text)


OPTIONS: Final = (
    ROOT,
    Group(
        "ServeOptions",
        "Where it listens, and how much is done at once",
        (
            Flag("--host", "HOST", "address that it listens at (default 127.0.0.1: for this machine alone)"),
            Flag(
                hosts.FLAG,
                "NAME",
                "name by which it may be asked for, beside localhost, --host and the machine's own; repeatable",
                _name,
                action="append",
            ),
            Flag("--port", "P", "port; 0 takes one that is free (default 8765)", _port, default=8765),
            Flag("--refresh", "S", "seconds between looks for a new generation (1; on object stores 10)", seconds),
            Flag("--max-upload", "SIZE", "of a picture that is asked with (default 16M)", size, default=16 << 20),
            Flag("--timeout", "S", "seconds that an answer may take (default 30)", seconds, default=30.0),
            Flag(
                "--max-concurrency",
                "N",
                "searches that are made or wait at once, and as many pictures (default 128)",
                positive,
                default=128,
            ),
            Flag("--threads", "N", "searches made at once, on a core each (default: this machine's cores)", threads),
        ),
    ),
    ENCODER_OF_ROOT,
    DEVICE,
    TRUST,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is told to end; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    return console.run(lambda: serve(arguments))


def serve(argv: Sequence[str]) -> int:
    """Parses, opens the root, listens, and says where."""
    options = command_line.parse("serve", __doc__, argv, OPTIONS)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"pixdex serve needs {', '.join(missing)}: install them with pip install -e '.[serve]'")
    # Now, as all of it is: --help needs none of it.
    from transforms.serving import listen  # noqa: PLC0415
    from transforms.serving.app import application  # noqa: PLC0415
    from transforms.serving.following import Following  # noqa: PLC0415
    from transforms.serving.limits import Limits, cores  # noqa: PLC0415
    from transforms.serving.opened import How  # noqa: PLC0415

    store = root_of(options)
    limits = Limits(
        upload_bytes=options.max_upload,
        seconds=options.timeout,
        at_once=options.max_concurrency,
        threads=options.threads or cores(),
    )
    host = options.host or "127.0.0.1"
    every = options.refresh or (1.0 if store.local is not None else _HOSTED_SECONDS)
    with listen.open_socket(host, options.port) as listening:
        following = Following(How(store, options.encoder, options.device, options.trust_uris), every)
        url, names = listen.url_of(listening), listen.names_of(listening, host, options.allow_host or ())
        _say_what_is_served(following.state.opened, store.url)
        if names.takes_addresses:
            console.say("whoever reaches this machine may search: there is no password")

        def told() -> None:
            following.start()
            console.show_json({"url": url})

        ended_by = listen.serve(application(following, limits, names), listening, told)
        following.close()
    return console.INTERRUPTED if ended_by == signal.SIGINT else console.DONE


def _say_what_is_served(opened: "Opened", root: str) -> None:
    totals = opened.generation.totals
    console.say(f"{root}: generation {opened.number}, {totals.embedded:,} items; Ctrl-C ends it")
    if why := opened.encoder.why_not("text"):
        console.say(f"texts are not taken: {why}")


if __name__ == "__main__":
    process.run(main)
