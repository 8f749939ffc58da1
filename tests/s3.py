"""S3 on this machine, reached as a user would reach the real one: a server of moto's in a process of its own."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import fsspec
import pytest


@contextmanager
def serving() -> Iterator[str]:
    """The address of an S3 server that keeps everything in memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    urlopen(f"{url}/moto-api/", timeout=1).close()
                    break
                except (URLError, OSError):
                    time.sleep(0.1)
                assert process.poll() is None, f"the server ended with {process.returncode}"
            else:
                raise TimeoutError(f"no server answers at {url}")
            yield url
        finally:
            process.terminate()


@contextmanager
def bucket_of(server: str) -> Iterator[str]:
    """A new bucket, as `s3://name`; whatever asks for S3 finds it by the environment alone."""
    kind = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", server),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        kind.clear_instance_cache()
        name = f"b{uuid.uuid4().hex}"
        fsspec.filesystem("s3").mkdir(name)
        yield f"s3://{name}"
        kind.clear_instance_cache()
