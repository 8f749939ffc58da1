"""Damage of any kind to the bytes of a file, the same for the same seed."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

PAGE = 4096

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, float("inf"), "", "x", "\0", "..", "sha256:", "xxh3:00",
    [], {}, [[]], {"path": 1}, [None, {}],
)  # fmt: skip
"""What may stand in the place of a value of a JSON record."""


def damaged(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Returns other bytes: of a copy that went wrong, a disk that did, or a file in the place of another."""
    ways = ["bit", "bits", "cut", "longer", "page", "swap", "random", "other", "empty"]
    weights = [8, 4, 4, 2, 3, 2, 2, 1, 0.3]
    if content[:1] == b"{":
        ways, weights = [*ways, "value", "key"], [*weights, 12, 6]
    while True:
        made = _damaged(content, rng.choices(ways, weights)[0], rng, others)
        if made != content:
            return made


def _damaged(content: bytes, way: str, rng: random.Random, others: list[bytes]) -> bytes:
    data = bytearray(content)
    start, stop = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    match way:
        case "bit" | "bits":
            for _ in range(1 if way == "bit" else rng.randrange(2, 40)):
                flip(data, rng.randrange(len(data)), rng)
        case "cut":
            del data[start:]
        case "longer":
            data += rng.choice([b"\0", b"}", bytes(data), rng.randbytes(rng.randrange(1, 9000))])
        case "page":
            page = rng.randrange(len(data)) // PAGE * PAGE
            data[page : page + PAGE] = bytes(len(data[page : page + PAGE]))
        case "swap":
            half = (stop - start) // 2
            data[start : start + half], data[stop - half : stop] = data[stop - half : stop], data[start : start + half]
        case "random":
            stop = min(stop, start + 64)
            data[start:stop] = rng.randbytes(stop - start)
        case "other":
            return rng.choice(others)
        case "empty":
            return b""
        case _:
            return changed_json(content, rng, way)
    return bytes(data)


def flip(data: bytearray, place: int, rng: random.Random) -> None:
    """Flips one bit of a byte."""
    data[place] ^= 1 << rng.randrange(8)


def changed_json(content: bytes, rng: random.Random, way: str) -> bytes:
    """Returns a JSON object in which one `value`, of any depth, is another, or a `key` is gone, new or renamed."""
    record = json.loads(content)
    places = list(_places(record))
    if not places:
        return content + b" "
    holder, name = rng.choice(places)
    if way == "value":
        holder[name] = rng.choice(
            [*VALUES, *(copy.deepcopy(one[key]) for one, key in rng.sample(places, min(3, len(places))))]
        )
    elif isinstance(holder, dict):
        value = holder.pop(name)
        if rng.random() < 0.5:
            holder[f"{name}x"] = value
    else:
        holder.insert(name, copy.deepcopy(holder[name]))
    return json.dumps(record, sort_keys=True).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yields every value inside another, as what holds it and its name or number there."""
    names = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for name in names:
        yield value, name
        yield from _places(value[name])


def spoiled(content: bytes, offset: int, length: int, rng: random.Random) -> bytes:
    """Returns other bytes within a range of a file: a bit, or a stretch of zeros or of anything."""
    data = bytearray(content)
    while data == content:
        place = rng.randrange(offset, offset + length)
        if rng.random() < 0.5:
            flip(data, place, rng)
            continue
        stop = min(offset + length, place + rng.choice([2, 8, 64, PAGE]))
        data[place:stop] = rng.choice([bytes(stop - place), rng.randbytes(stop - place)])
    return bytes(data)
