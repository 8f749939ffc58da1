"""A list of URLs whose hosts do all that one can do: every picture ends embedded or rejected with the right reason.

In this process by the quick tests, on Flink by the gate.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import reindex, verify
from tests import web
from tests.end_to_end.builds import TINY, rejects_of, rows_of, run_here

CONNECTIONS = 6
LIMIT = 40_000

EMBEDDED = [
    *(f"/ok/{number}.png" for number in range(20)),
    *("/wrong-type/31", "/moved/32", "/busy/33", "/shaky/34", "/chunks/35", "/unsaid/3000", "/packed/3000"),
    *("/large/30000", "/to?/ok/36"),
]
REJECTED = {
    "/html": ("HTMLPage", "the server sent a page of HTML, and no picture"),
    "/text": ("UnidentifiedImageError", ""),
    "/status/403": ("HTTPError", "403 Forbidden"),
    "/status/404": ("HTTPError", "404 Not Found"),
    "/status/500": ("HTTPError", "500 Internal Server Error"),
    "/mended/40": ("HTTPError", "410 Gone"),
    "/loop": ("TooManyRedirects", "more than 10 redirects lead from it"),
    "/to?file:///etc/passwd": ("BadURL", "it is no URL of http or https, or leads to none"),
    "/to?http://169.254.169.254/latest/meta-data": ("PrivateAddress", "169.254.169.254 is an address of this machine"),
    "/hangs": ("timeout", "fetching takes longer than --item-timeout allows"),
    "/drips": ("timeout", "fetching takes longer than --item-timeout allows"),
    "/drips/header": ("timeout", "fetching takes longer than --item-timeout allows"),
    "/cut": ("CutShort", "the connection ended before the body did"),
    "/cut-chunks": ("CutShort", "the connection ended before the body did"),
    "/resets": ("ConnectionResetError", "Connection reset by peer"),
    "/hangs-up": ("RemoteDisconnected", "Remote end closed connection without response"),
    "/junk": ("BadAnswer", "what the server says is no HTTP"),
    "/large/50000": ("ObjectTooLargeError", "the file has 50000 bytes, the limit is 40000"),
    "/unsaid/50000": ("ObjectTooLargeError", "the file has more than 40000 bytes, the limit is 40000"),
    "/packed/50000": ("ObjectTooLargeError", "the file has more than 40000 bytes, the limit is 40000"),
}
LIMITS = (
    *("--item-timeout", "3", "--max-file-bytes", str(LIMIT), "--max-reject-ratio", "0.9"),
    *("--host-connections", str(CONNECTIONS), "--fetch-user-agent", "pixdex tests"),
)


@pytest.fixture
def server() -> Iterator[web.Server]:
    with web.serving() as running:
        yield running


def urls_of(server: web.Server) -> dict[str, tuple[str, str] | None]:
    """What a list names, with type and message of each reject."""
    named: dict[str, tuple[str, str] | None] = {server.url(path): None for path in EMBEDDED}
    named |= {server.url(path): why for path, why in REJECTED.items()}
    return named | {
        server.url("/ok/1", "127.0.0.2"): ("PrivateAddress", "127.0.0.2 is an address of this machine"),
        server.url("/to?" + server.url("/ok/1", "127.0.0.2")): ("PrivateAddress", "127.0.0.2 is an address of this"),
        "http://2130706433/a.png": ("PrivateAddress", "127.0.0.1 is an address of this machine or its network"),
        "http://no.such.invalid/a.png": ("UnknownHost", ""),
        "example.com/a.png": ("NoURL", "'example.com/a.png' is no URL, such as https://host/picture.jpg"),
    }


CASES = ["here", pytest.param("flink", marks=pytest.mark.gate)]


@pytest.mark.parametrize("runner", CASES)
def test_every_url_ends_embedded_or_rejected_with_the_right_reason(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    server: web.Server,
    runner: str,
    request: pytest.FixtureRequest,
) -> None:
    # Who names a list at a private address means its host; that its rows name others is nobody's word.
    flags = (*request.getfixturevalue("flink").job_server, "--parallelism", "2") if runner == "flink" else ()
    processes = 2 if runner == "flink" else 1
    named = urls_of(server)
    server.files["/list.txt.gz"] = gzip.compress("\n".join(["# pictures", "", *named]).encode())
    argv = ("--urls", server.url("/list.txt.gz"), *LIMITS, *TINY)

    built = run_here(capsys, "--root", tmp_path / "root", *argv, *flags)
    assert built.code == 0, built.err
    assert (built.said["items"], built.said["embedded"]) == (len(named), len(EMBEDDED))

    rejects = {reject["uri"]: reject for reject in rejects_of(tmp_path / "root")}
    assert len(rejects) == len(named) - len(EMBEDDED)
    for url, why in named.items():
        if why is not None:
            reject = rejects[url if why[0] != "NoURL" else server.url("/list.txt.gz")]
            assert reject["type"] == why[0] and why[1] in reject["message"], reject
            assert reject["stage"] == {"UnidentifiedImageError": "decode", "NoURL": "plan"}.get(why[0], "fetch")
    assert {uri for (uri,) in rows_of(tmp_path / "root", ("uri",))} == {server.url(path) for path in EMBEDDED}

    assert {host for _, host, _ in server.seen.requests} == {"127.0.0.1"}
    assert server.seen.most["127.0.0.1"] <= CONNECTIONS * processes
    assert server.seen.headers["/ok/1.png"]["user-agent"] == "pixdex tests"
    first, second = server.seen.times("/busy/33")
    assert second - first >= 1

    if runner == "here":
        again(tmp_path / "root", capsys, server)


def again(root: Path, capsys: pytest.CaptureFixture[str], server: web.Server) -> None:
    """A night asks no host for what is there or was rejected; but for rejects of a type, where it is told to."""
    asked = len(server.seen.requests)
    night = ("--root", str(root), "--trust-uris", "--no-progress", *LIMITS)
    assert reindex.main([*night]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["unchanged"] == len(EMBEDDED) and said["embedded"] == 0
    assert {path for path, _, _ in server.seen.requests[asked:]} <= {"/list.txt.gz"}

    assert reindex.main([*night, "--retry-rejects", "HTTPError", "--retry-rejects", "NoURL"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["embedded"] == 1
    assert len(server.seen.times("/mended/40")) == 2 and len(server.seen.times("/hangs")) <= 2
    assert verify.main(["--root", str(root)]) == 0
