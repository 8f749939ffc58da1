"""Numbers as people write and read them: counts, bytes, durations, rates."""

import re
from typing import Final

from transforms.errors import UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)I?B?", re.IGNORECASE)
_FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
A_SIZE: Final = "a size such as 16G or 512M"
_LONGEST = 20
"""Digits of a number of bytes."""
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COUNT = re.compile(r"(\d[\d_,]*(?:\.\d+)?(?:e\+?\d{1,3})?)([KMBT]?)", re.IGNORECASE)
_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def count(flag: str, text: str, most: int) -> int:
    """Reads a whole number from 1 to `most`: 1000000, 1_000_000, 1e6 or 1M.

    >>> [count("--num-vectors", text, 10**12) for text in ("1e9", "250M", "1_000")]
    [1000000000, 250000000, 1000]
    """
    match = _COUNT.fullmatch(text.strip())
    value = float(match[1].replace("_", "").replace(",", "")) * _THOUSANDS[match[2].upper()] if match else 0.0
    if not 1 <= value <= most or value != int(value):
        raise UsageError(f"{flag} {text} is not a whole number from 1 to {most:,}, such as 1000000, 1e9 or 250M")
    return int(value)


def bytes_of(text: str) -> int | None:
    """Reads a number of bytes above 0 as autofaiss writes it, in powers of 1,024; None where the text is none.

    >>> [bytes_of(text) for text in ("16G", "512 MB", "1000", "0", "many")]
    [17179869184, 536870912, 1000, None, None]
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > _LONGEST:
        return None
    return int(float(match[1]) * _FACTOR[match[2].upper()]) or None


def seconds_of(text: str) -> float | None:
    """Reads a time: 24h, 30m, 7d, 90s or 0s; None where the text is none.

    >>> [seconds_of(text) for text in ("24h", "0s", "1.5m", "7d", "soon")]
    [86400.0, 0.0, 90.0, 604800.0, None]
    """
    match = _TIME.fullmatch(text.strip())
    return float(match[1]) * _SECONDS[match[2].lower()] if match else None


def size_text(size: int) -> str:
    """Writes a number of bytes as `bytes_of` reads it, rounded up where it is large.

    >>> size_text(16 << 30), size_text((512 << 20) + 1), size_text(100)
    ('16G', '513M', '1K')
    """
    power, unit = next(((power, unit) for power, unit in ((30, "G"), (20, "M")) if size >= 1 << power), (10, "K"))
    return f"{-(-size >> power)}{unit}"


def size(flag: str, text: str) -> int:
    """Reads the number of bytes that a flag gives."""
    value = bytes_of(text)
    if value is None:
        raise UsageError(f"{flag} {text} is not {A_SIZE}")
    return value


def rate(flag: str, text: str) -> float:
    """Reads a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{flag} {text} is not a number above 0")
    return value


def bytes_text(size: float) -> str:
    """Writes bytes.

    >>> bytes_text(3 << 40), bytes_text(1536), bytes_text(0)
    ('3.0 TiB', '1.5 KiB', '')
    """
    for power, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):,.1f} {unit}"
    return f"{size:.0f} bytes" if size else ""


def duration_text(seconds: float) -> str:
    """Writes seconds in the unit that reads best.

    >>> duration_text(0.234), duration_text(75), duration_text(3 * 3600), duration_text(10**6)
    ('0.2 s', '1.2 min', '3.0 h', '11.6 days')
    """
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (100 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 86_400:,.1f} days"


def rate_text(name: str, value: float) -> str:
    """Writes a rate of `transforms.forecast.rates` with its unit.

    >>> rate_text("matrix_flops", 6e10), rate_text("read_bytes", 5e8), rate_text("stage_seconds", 0.25)
    ('60.0 Gflop/s', '0.50 GB/s', '0.250 s')
    """
    if name.endswith("_flops"):
        return f"{value / 1e9:,.1f} Gflop/s"
    return f"{value / 1e9:,.2f} GB/s" if name.endswith("_bytes") else f"{value:.3f} s"
