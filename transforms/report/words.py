"""Numbers and times as people read them."""

import math
import re
import time
from typing import Final

from transforms.storage import addresses

_URI: Final = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
_MARKS: Final = 5


def size(number: float) -> str:
    """Returns a number of bytes, in powers of 1,024, as `pixdex inspect` says it.

    >>> size(512), size(1536), size(300 << 20)
    ('512 B', '1.5 KiB', '300 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def seconds(number: float) -> str:
    """Returns a span of time.

    >>> seconds(0.0123), seconds(7.25), seconds(75), seconds(7300)
    ('0.012 s', '7.25 s', '1 min 15 s', '2 h 1 min')
    """
    if number < 1:
        return f"{number:.3f} s"
    if number < 60:
        return f"{number:.2f} s" if number < 10 else f"{number:.1f} s"
    whole = round(number)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def moment(at: float) -> str:
    """Returns a time of the world.

    >>> moment(0)
    '1970-01-01 00:00 UTC'
    """
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def short(number: float) -> str:
    """Returns a round number in few characters.

    >>> [short(number) for number in (0.05, 200, 5e3, 1.5e6, 0.0)]
    ['0.05', '200', '5K', '1.5M', '0']
    """
    factor, unit = next((each for each in ((1e9, "B"), (1e6, "M"), (1e3, "K")) if abs(number) >= each[0]), (1.0, ""))
    return f"{number / factor:.4g}{unit}"


def ticks(low: float, high: float) -> list[float]:
    """Returns round numbers, equally far from each other, that begin at or below one and end at or above another.

    >>> ticks(0, 87), ticks(0.82, 1)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.8, 0.85, 0.9, 0.95, 1.0])
    """
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / _MARKS))
    step = next(each * power for each in _STEPS if each * power * _MARKS >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def cut(text: str, most: int = 300) -> str:
    """Returns a text as one line, cut where it is long.

    >>> cut("a\\nb " * 3, 6)
    'a b a…'
    """
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def bare(text: str) -> str:
    """Returns a text whose URIs have no users, passwords and signatures: who reads a page may be anybody.

    >>> bare("404 of https://me:secret@example.org/a.png?key=1, again")
    '404 of https://example.org/a.png again'
    """
    return _URI.sub(lambda found: addresses.without_secrets(found[0]), text)
