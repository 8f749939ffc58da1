"""Keys of items: the URI in Unicode's composed form (NFC), so that one name has one key, however it is stored.

The name that macOS stores decomposed and the one that a Korean CSV spells composed are one key.
"""

import unicodedata

import pyarrow as pa
import pyarrow.compute as pc


def nfc(values: pa.Array) -> pa.Array:
    """Returns strings in Unicode's composed form, nulls as they are."""
    # Arrow's own `utf8_normalize(form="NFC")` decomposes (seen in pyarrow 25).
    if pc.all(pc.string_is_ascii(values)).as_py():
        return values
    texts = values.to_pylist()
    return pa.array([text and unicodedata.normalize("NFC", text) for text in texts], pa.string())
