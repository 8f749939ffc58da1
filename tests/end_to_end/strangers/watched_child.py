"""Runs commands of pixdex in one process, and says what each of them touched outside of its root.

    python -m tests.end_to_end.strangers.watched_child PLAN.json

The plan says which roots there are, which commands are run on each, and what lies around them; the last line is one
JSON object: by root and command the exit code, standard error, and what was touched. Python's own calls are seen by an
audit hook, those of libraries in C++ by inotify, which watches what nobody may open.
"""

import contextlib
import ctypes
import io
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_ON_PATHS: Final = {
    "open": 1, "os.listdir": 1, "os.scandir": 1, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.rename": 2,
    "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.chmod": 1, "shutil.rmtree": 1, "os.utime": 1, "os.chdir": 1,
}  # fmt: skip
"""Events of Python that name what they touch, and how many of their arguments are paths."""

_ON_NAMES: Final = {"os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "shutil.rmtree"}
"""Those that take a link for itself, and do not follow it."""

_ELSEWHERE: Final = {"socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"}
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OPENED: Final = 0x00000020 | 0x00000002 | 0x00000100 | 0x00000200 | 0x00000040 | 0x00000080
"""Of inotify: opened, written, made, removed, moved from and to."""


class Watch:
    """What is touched outside of the root while a command runs."""

    def __init__(self, around: Path, forbidden: list[Path], modules: list[str]) -> None:
        """Watches a folder in which everything lies, those in it that nobody opens, and modules nobody imports."""
        self.around, self.modules = f"{around}/", modules
        self.allowed: tuple[str, ...] = ()
        self.touched: list[str] | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._notify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in (each for top in forbidden for each in (top, *top.rglob("*")) if each.is_dir()):
            assert self._libc.inotify_add_watch(self._notify, str(folder).encode(), _OPENED) >= 0
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def of(self, *allowed: Path) -> Iterator[list[str]]:
        """Collects what is touched while the block runs, but for what is allowed."""
        self.allowed = tuple(str(each) for each in allowed)
        touched: list[str] = []
        self._seen()
        self.touched = touched
        try:
            yield touched
        finally:
            self.touched = None
            touched += [f"inotify {name}" for name in self._seen()]

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        touched = self.touched
        if touched is None:
            return
        if event in _ELSEWHERE:
            touched.append(f"{event} {arguments[1:2]}")
        elif event == "import" and arguments[0] in self.modules:
            touched.append(f"import {arguments[0]}")
        elif event in _ON_PATHS:
            writes = event != "open" and event not in ("os.listdir", "os.scandir", "os.chdir")
            if event == "open" and isinstance(arguments[2], int):
                writes = bool(arguments[2] & _WRITES)
            for path in arguments[: _ON_PATHS[event]]:
                place = _place(path, arguments, follows=event not in _ON_NAMES)
                if place is not None and self._is_outside(place, writes=writes):
                    touched.append(f"{event} {place}")

    def _is_outside(self, place: str, *, writes: bool) -> bool:
        """Whether a place is neither the root's nor Python's: near the root nothing may be read, elsewhere written."""
        if any(place == each or place.startswith(f"{each}/") for each in self.allowed):
            return False
        return place.startswith(self.around) or (writes and not place.startswith(("/dev/", "/proc/")))

    def _seen(self) -> list[str]:
        """What inotify saw since it was last asked."""
        with contextlib.suppress(BlockingIOError):
            names, data = [], os.read(self._notify, 1 << 16)
            while data:
                length = int.from_bytes(data[12:16], sys.byteorder)
                names.append(f"{data[4:8].hex()} {data[16 : 16 + length].rstrip(bytes(1)).decode()}")
                data = data[16 + length :]
            return names
        return []


def _place(path: Any, arguments: tuple[Any, ...], *, follows: bool) -> str | None:
    """Where a path leads; None where it is none."""
    if isinstance(path, int) or not isinstance(path, str | bytes | os.PathLike):
        return None
    place = Path(os.fsdecode(path))
    folder = next((each for each in arguments[1:] if isinstance(each, int) and each > 2), None)
    if not place.is_absolute() and folder is not None:
        with contextlib.suppress(OSError):
            place = Path(f"/proc/self/fd/{folder}").readlink() / place
    place = Path.cwd() / place
    return str(place.resolve() if follows else place.parent.resolve() / place.name)


def run(words: list[str]) -> tuple[int, str]:
    """Runs a command as the console script does; returns its exit code and standard error."""
    from pipelines import cli  # noqa: PLC0415 - what it imports is of no interest, and the watch begins later

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # noqa: BLE001 - it is what is looked for
            code = -1
            err.write(traceback.format_exc())
    return code, err.getvalue()


def main() -> None:
    """Runs all of the plan."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    for words in plan["first"]:  # whatever is imported by the commands is imported now
        code, said = run(words)
        assert code == 0, said
    forbidden = [Path(each) for each in plan["forbidden"]]
    watch = Watch(Path(plan["around"]), forbidden, plan["modules"])
    allowed = [Path(each) for each in plan["allowed"]]
    outcomes: dict[str, dict[str, Any]] = {}
    for task in plan["tasks"]:
        for name, words in task["commands"].items():
            with watch.of(Path(task["root"]), *allowed) as touched:
                code, said = run(words)
            outcome = {"code": code, "said": said, "touched": touched}
            outcomes.setdefault(task["name"], {})[name] = outcome
    with watch.of(Path("/nowhere")) as touched:  # the watch itself is watched
        (forbidden[0] / "file").read_bytes()
        os.listdir(forbidden[0])  # noqa: PTH208 - an event of its own
        os.close(watch._libc.open(os.fsencode(forbidden[0] / "file"), os.O_RDONLY))  # as libraries in C++ do
    outcomes["the watch"] = {"itself": {"touched": touched}}
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
