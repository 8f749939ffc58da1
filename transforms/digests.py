"""Digests of records: the same question, or the same content, is told by a few digits.

A digest covers every field. Fields that were added since count only where they differ from what a record without them
means: so manifests that were sealed, and runs that were begun, before there was the field are what they were.
"""

import hashlib
from typing import Any, Final

import msgspec

_ADDED: Final[dict[str, Any]] = {
    "refine": "none",
    "hidden": None,
    "tuned": None,
    "query_kind": None,
    "derivation": None,
    "root_parts": [],
    "carried": 0,
    "image_bytes": False,
    "text_vectors": None,
    "text_uri": None,
    "text_version": None,
    "uri_column": None,
    "image_base": None,
    "image_was": None,
    "names_pictures": False,
    "missing_image": "reject",
    "without_picture": 0,
}
"""Names that fields of records had not before, and what a record without them means."""


def digest(*parts: object) -> str:
    """Returns the sha256, in hexadecimal, of records and plain values; equal parts give equal digests.

    >>> digest(1, "a") == digest(1, "a") != digest(1, "b")
    True
    >>> digest({"key": "auto", "refine": "none"}) == digest({"key": "auto"}) != digest({"key": "auto", "refine": "f16"})
    True
    """
    data = msgspec.json.encode(parts, order="sorted")
    if any(f'"{name}":'.encode() in data for name in _ADDED):
        data = msgspec.json.encode(_as_before(msgspec.json.decode(data)), order="sorted")
    return hashlib.sha256(data).hexdigest()


def _as_before(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_before(part) for name, part in value.items() if name not in _ADDED or part != _ADDED[name]}
    return [_as_before(part) for part in value] if isinstance(value, list) else value
