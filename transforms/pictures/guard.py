"""Decodes pictures in a process of its own, which may crash or never end: that costs the picture and nothing else.

The process is `transforms.pictures.guarded`, started anew (never forked: threads and native libraries do not survive
that), and killed when a picture takes too long. It decodes one picture at a time, so that the one it dies of is known.
"""

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Final

import msgspec
from PIL import Image

from transforms import interpreter
from transforms.errors import PixdexError
from transforms.pictures.decode import Fit
from transforms.rejects import Failure

START_SECONDS: Final = 120.0
"""The process may take so long to start: some tenths of a second on a machine that is not overloaded."""

READY: Final = b"ready"
"""What the process says when it has started."""

OVERTIME: Final = "takes longer than --item-timeout allows"


@dataclass(frozen=True)
class How:
    """How a picture is decoded and fitted: see `decode.decode` and `decode.fit`; and the seconds that it may take.

    `is_fitted` false leaves it as it is decoded: with mode "pad", whole and without a border.
    """

    pixel_limit: int
    target: int | None
    mode: Fit
    seconds: float
    is_fitted: bool = True


@dataclass(frozen=True)
class Answer:
    """What the process says of a picture: why there is none, or else its sides as decoded and as the file has them;
    then its pixels follow.
    """

    failure: Failure | None = None
    sides: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (0, 0)


class _EndedError(Exception):
    """The process ended; the message says how."""


class Guard:
    """Decodes pictures one by one in another process, which is started when there is one to decode, and again when
    it is gone. For one thread; every thread has its own.
    """

    def __init__(self, how: How) -> None:
        """Starts nothing yet; all pictures are decoded as `how` says."""
        self._how = how
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def decode(self, data: bytes) -> Image.Image | Failure:
        """Decodes the bytes of a file to the picture that `decode.decode` and `decode.fit` make of them.

        A process that has decoded others may have been ended from outside, or by what one of these left behind: only
        one that is new is taken for the picture's victim.

        Returns:
            The picture, RGB, with its upright (width, height) in `info["size"]`; or why there is none: what the decoder
            raised, or a failure of type `crash` or `timeout`.

        Raises:
            PixdexError: the process cannot be started here.
        """
        if self._connection is not None:
            with contextlib.suppress(_EndedError):
                return self._decode(self._connection, data)
        try:
            return self._decode(self._start(), data)
        except _EndedError as ended:
            return Failure("decode", "crash", f"the decoder {ended}")

    def close(self) -> None:
        """Ends the process, whatever it does; that there is none is no error."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._connection = None

    def _decode(self, connection: Connection, data: bytes) -> Image.Image | Failure:
        try:
            connection.send_bytes(data)
            if not connection.poll(self._how.seconds):
                self.close()
                return Failure("decode", "timeout", f"decoding {OVERTIME}")
            answer = msgspec.msgpack.decode(connection.recv_bytes(), type=Answer)
            if answer.failure is not None:
                return answer.failure
            picture = Image.frombytes("RGB", answer.sides, connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise _EndedError(self._last_word()) from error
        except BaseException:
            self.close()  # what is left in the pipe would be taken for the answer to the next picture
            raise
        picture.info["size"] = answer.size
        return picture

    def _start(self) -> Connection:
        why = f"it said nothing within {START_SECONDS:.0f} s"
        try:
            here, there = Pipe()
            self._connection = here
            with contextlib.closing(there):
                self._process = subprocess.Popen(
                    interpreter.command("-m", "transforms.pictures.guarded", str(there.fileno())),
                    env=interpreter.environment(),
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # the last words of a C library say nothing to a person
                    start_new_session=True,  # Ctrl-C is for whoever asks: a picture is not to be blamed for it
                )
            here.send_bytes(msgspec.msgpack.encode(self._how))
            if here.poll(START_SECONDS) and here.recv_bytes() == READY:
                return here
        except (EOFError, OSError) as error:
            why = str(error) if self._process is None else f"it {self._last_word()}"
        self.close()
        raise PixdexError(
            f"a process that decodes pictures one by one could not be started on this machine ({why}): see whether "
            "python -m transforms.pictures.guarded starts, then run the same command again"
        )

    def _last_word(self) -> str:
        """Ends the process and says how it ended, in the same words on every machine."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(START_SECONDS)
        code = self._process.poll()
        self.close()
        if code is None:
            return "closed its pipe"
        if code >= 0:
            return f"ended with exit code {code}"
        number = -code
        return f"was ended by {signal.Signals(number).name if number in set(signal.Signals) else f'signal {number}'}"
