"""What install.sh put on this machine, and the Java that runs it."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from errors import ClusterError

HERE: Final = Path(__file__).resolve().parent
SUITABLE_JAVA: Final = ("17", "11")  # of Flink 1.19


def versions() -> dict[str, str]:
    """Reads versions.env."""
    lines = (HERE.parent / "versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def flink_folder() -> Path:
    """Where install.sh puts Flink."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PIXDEX_FLINK") or cache / "pixdex" / "flink")


def distribution(flink: Path) -> Path:
    """Flink's jars."""
    return flink / f"flink-{versions()['FLINK']}"


def job_server_jar(flink: Path) -> Path:
    """The jar of Beam's job server."""
    named = versions()
    return flink / f"beam-flink-{minor_version()}-job-server-{named['FLINK_JOB_SERVER']}.jar"


def minor_version() -> str:
    """What --flink_version wants."""
    return versions()["FLINK"].rpartition(".")[0]


def suitable_java() -> str:
    """Finds a Java that this Flink runs on.

    Raises:
        ClusterError: there is none.
    """
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    named = [f"{home}/bin/java"] if home else []
    installed = [
        str(path) for version in SUITABLE_JAVA for path in Path("/usr/lib/jvm").glob(f"*-{version}-*/bin/java")
    ]
    unsuitable = []
    for java in [*named, *([on_path] if on_path else []), *sorted(installed)]:
        try:
            said = subprocess.run([java, "-version"], capture_output=True, encoding="utf-8", check=False).stderr
        except OSError:
            continue
        version = re.search(r'version "(\d+)', said)
        if version and version[1] in SUITABLE_JAVA:
            return java
        unsuitable.append(f"{java} is Java {version[1] if version else '?'}")
    why = "; ".join(unsuitable) or "there is none"
    raise ClusterError(
        f"Flink {minor_version()} needs Java {' or '.join(SUITABLE_JAVA)} ({why}): install it (Debian: apt install "
        "openjdk-17-jre-headless) or name one with JAVA_HOME"
    )
