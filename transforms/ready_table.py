"""How a range of ready embeddings stands in a parquet table: a struct with the fields of `VectorRange`, or null."""

from dataclasses import fields
from typing import Final, get_type_hints

import pyarrow as pa

from transforms.records import VectorRange

_HINTS: Final = get_type_hints(VectorRange)

READY: Final = pa.struct(
    [(field.name, pa.int64() if _HINTS[field.name] is int else pa.string()) for field in fields(VectorRange)]
)
