"""The process behind `transforms.pictures.guard`: takes the bytes of a file, sends its pixels or what was raised.

Its only argument is the number of the file descriptor of its end of the pipe. It ends when the other end is closed, and
by an alarm when a picture takes much longer than it may: then nobody is there who would have ended it.
"""

import resource
import signal
import sys
from multiprocessing.connection import Connection

import msgspec

from transforms.pictures import decode
from transforms.pictures.guard import READY, Answer, How
from transforms.rejects import Failure

_GRACE = 10.0


def main(descriptor: int) -> None:
    """Decodes one picture after the other until nobody asks any more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an end that is expected leaves no gigabytes behind
    connection = Connection(descriptor)
    try:
        how = msgspec.msgpack.decode(connection.recv_bytes(), type=How)
        connection.send_bytes(READY)
        while True:
            data = connection.recv_bytes()
            signal.setitimer(signal.ITIMER_REAL, how.seconds + _GRACE)  # it ends loops of native code, too
            _answer(connection, data, how)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (EOFError, ConnectionError):
        return


def _answer(connection: Connection, data: bytes, how: How) -> None:
    try:
        decoded = decode.decode(data, pixel_limit=how.pixel_limit, target=how.target, mode=how.mode)
        picture = decode.fit(decoded, how.mode) if how.is_fitted else decoded
        answer, pixels = Answer(None, picture.size, decoded.info["size"]), picture.tobytes()
    except Exception as error:  # noqa: BLE001 - hostile files raise anything
        connection.send_bytes(msgspec.msgpack.encode(Answer(Failure.of("decode", error))))
        return
    connection.send_bytes(msgspec.msgpack.encode(answer))
    connection.send_bytes(pixels)


if __name__ == "__main__":
    main(int(sys.argv[1]))
