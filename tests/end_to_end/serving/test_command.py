"""`pixdex serve` as a process: what it says, how it ends, and what it refuses before it listens."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from pipelines import serve
from tests.end_to_end.serving.server_process import served
from tests.roots import Row, make_root

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_root(tmp_path / "root", [Row("a", (1.0, 0.0))])
    return tmp_path / "root"


@pytest.mark.gate
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_says_where_it_listens_and_ends_when_it_is_told(number: signal.Signals, code: int, root: Path) -> None:
    with served(root) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert server.ended(number) == code
        assert server.process.stdout is not None and server.process.stdout.read() == ""


def test_what_is_missing_is_named_with_the_way_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(serve, "_NEEDED", ("fastapi", "a_module_that_is_not_there"))
    assert serve.main(["--root", str(root)]) == 2
    said = capsys.readouterr().err
    assert said == (
        "pixdex: pixdex serve needs a_module_that_is_not_there: install them with pip install -e '.[serve]'\n"
    )


def test_a_port_that_is_taken_is_named(root: Path, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--root", str(root), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen at 127.0.0.1:{port} (Address already in use): take another --port, or 0" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "70000"), "is not a port"),
        (("--host", "no such host"), "is no address of this machine"),
        (("--allow-host", "http://photos.example"), "is no name of a host"),
        (("--max-upload", "x"), "is not"),
        (("--refresh", "0"), "is not a number of seconds"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, str], said: str, root: Path, capsys: Capture) -> None:
    assert serve.main(["--root", str(root), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_root_that_is_not_there_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert serve.main(["--root", str(tmp_path / "nowhere"), "--port", "0"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_its_help_needs_no_server() -> None:
    code = "import sys; from pipelines import cli\ntry: cli.main(['serve', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'fastapi', 'uvicorn', 'prometheus_client', 'torch', 'faiss'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.gate
def test_it_ends_while_a_picture_is_awaited_that_does_not_come(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        make_root(tmp_path / "root", [Row("a", (1.0, 0.0), uri=uri)])
        with served(tmp_path / "root", "--trust-uris", "--timeout", "1") as server:
            with pytest.raises(HTTPError, match="504"):
                urlopen(f"{server.url}/api/items/0/picture", timeout=30)
            began = time.monotonic()
            assert server.ended(signal.SIGTERM) == 0
            assert time.monotonic() - began < 8  # it is waited for 15 s
