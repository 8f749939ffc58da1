"""`clip-retrieval`: a folder as clip-retrieval makes and serves it, and as a build takes it in again.

| file | holds |
|---|---|
| `img_emb/img_emb_*.npy` | vectors of pictures |
| `text_emb/text_emb_*.npy` | vectors of texts and keywords |
| `metadata/metadata_*.parquet` | a row for each item: `image_path`, `url`, `caption`, what else is known |
| `image.index`, `text.index` | faiss indexes whose ids are numbers of metadata rows, counted over all files |
| `indices_paths.json` | what `clip-retrieval back` is started with, in this folder |

Files of one number belong together, row for row. A picture with a text of the same item is a *pair*, and one row. Pairs
come first, then pictures that are alone, then texts that are, each in files of their own: a number that has no file in
`text_emb` is of pictures alone. So no row needs a vector that there is not, and each index has the ids of its own rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.export.columns import Columns, columns_of
from transforms.export.data_files import METADATA_ROWS, write_npy, write_parquet
from transforms.export.destination import ExportFile, Tell, write_bytes
from transforms.export.id_table import PIXDEX_ID
from transforms.export.index_file import write_index
from transforms.export.layout import Layout
from transforms.export.numbering import Numbering, NumberingBuilder, ranges
from transforms.export.origin import Origin
from transforms.export.rows import metadata_between, vectors_between
from transforms.records import ROW_BITS
from transforms.search.metadata import is_of_no_picture
from transforms.storage.arrow_numbers import array_of

IMAGE_PATH, URL, TEXT_ID = "image_path", "url", "pixdex_text_id"

_OPEN_CLIP: Final = "open_clip:"

_SHOWN: Final = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean)
"""Types that clip-retrieval can answer with."""


@dataclass(frozen=True)
class Items:
    """Numbers of metadata rows.

    Attributes:
        pair_images, pair_texts: pictures and texts of pairs, which have the same numbers.
        images, texts: those that are alone; keywords are texts.
    """

    pair_images: Numbering
    pair_texts: Numbering
    images: Numbering
    texts: Numbering

    @classmethod
    def of(cls, origin: Origin) -> "Items":
        """Numbers the living rows of a generation.

        Cost: the keys of each shard that has pictures and texts are read.
        """
        builders = [NumberingBuilder() for _ in range(4)]
        for living in origin.living():
            with_text, with_image = origin.pairs(living)
            images = living.of("image")
            parts = with_text, with_image, images & ~with_text, living.rows & ~images & ~with_image
            for builder, rows in zip(builders, parts, strict=True):
                builder.add(living.shard.shard, rows)
        pairs = builders[0].made()
        alone = builders[2].made(pairs.stop)
        return cls(pairs, builders[1].made(), alone, builders[3].made(alone.stop))

    @property
    def of_images(self) -> list[Numbering]:
        """All pictures."""
        return [one for one in (self.pair_images, self.images) if one.count]

    @property
    def of_texts(self) -> list[Numbering]:
        """All texts."""
        return [one for one in (self.pair_texts, self.texts) if one.count]


@dataclass(frozen=True)
class _Part:
    """Metadata rows `start` to `stop` (exclusive), all of a kind: those of one file."""

    kind: Literal["pairs", "images", "texts"]
    number: str
    start: int
    stop: int


def layout(origin: Origin, folder: Path, rows_per_file: int) -> Layout:
    """Returns the files of a folder of clip-retrieval."""
    items = Items.of(origin)
    columns = columns_of(origin, (IMAGE_PATH, PIXDEX_ID, TEXT_ID))
    schema = _schema(columns)
    parts = _parts(items, rows_per_file)
    files: list[ExportFile] = []
    for part in parts:
        count = part.stop - part.start
        if part.kind != "texts":
            rows = items.pair_images if part.kind == "pairs" else items.images
            files.append(_vectors(origin, rows, part, "img_emb"))
        if part.kind != "images":
            rows = items.pair_texts if part.kind == "pairs" else items.texts
            files.append(_vectors(origin, rows, part, "text_emb"))
        write = partial(_write_metadata, origin, items, part, columns, schema)
        files.append(ExportFile(f"metadata/metadata_{part.number}.parquet", count, write))
    for name, numberings in (("image", items.of_images), ("text", items.of_texts)):
        if numberings:
            count = sum(one.count for one in numberings)
            files.append(ExportFile(f"{name}.index", count, partial(write_index, origin, numberings)))
    files.append(ExportFile("indices_paths.json", 0, partial(_write_paths, origin, schema)))
    return Layout(items.texts.stop, tuple(files), _note(parts))


def _parts(items: Items, rows_per_file: int) -> list[_Part]:
    kinds: dict[Literal["pairs", "images", "texts"], Numbering] = {
        "pairs": items.pair_images, "images": items.images, "texts": items.texts,
    }  # fmt: skip
    cuts = [(kind, *cut) for kind, rows in kinds.items() for cut in ranges(rows.first, rows.stop, rows_per_file)]
    # As many digits as the last number has: in the order of their names files are read elsewhere.
    digits = len(str(max(0, len(cuts) - 1)))
    return [_Part(kind, f"{place:0{digits}d}", start, stop) for place, (kind, start, stop) in enumerate(cuts)] or [
        _Part("images", "0", 0, 0)
    ]


def _vectors(origin: Origin, rows: Numbering, part: _Part, folder: str) -> ExportFile:
    return ExportFile(
        f"{folder}/{folder}_{part.number}.npy", part.stop - part.start, partial(_write_vectors, origin, rows, part)
    )


def _write_vectors(origin: Origin, numbering: Numbering, part: _Part, file: Path, tell: Tell) -> None:
    def vectors() -> Iterator[NDArray[np.float32]]:
        for rows in vectors_between(origin, numbering, part.start, part.stop):
            assert rows.vectors is not None
            yield rows.vectors
            tell(len(rows.ids))

    write_npy(file, (part.stop - part.start, origin.dim), vectors(), as_halves=origin.has_halves)


def _schema(columns: Columns) -> pa.Schema:
    """Columns of metadata; a column `url` of the sources stands for the one that would be made."""
    made = [pa.field(IMAGE_PATH, pa.string(), nullable=False)]
    if URL not in columns.names:
        made.append(pa.field(URL, pa.string()))
    ids = [pa.field(PIXDEX_ID, pa.int64(), nullable=False), pa.field(TEXT_ID, pa.int64())]
    return pa.schema([*made, *columns.schema, *ids])


def _write_metadata(
    origin: Origin, items: Items, part: _Part, columns: Columns, schema: pa.Schema, file: Path, tell: Tell
) -> None:
    """Writes what the items of a part are. Memory, beside that of a table: 8 bytes a row."""
    text_ids = _ids(items.pair_texts, part) if part.kind == "pairs" else None

    def tables() -> Iterator[pa.Table]:
        done = 0
        numbering = {"pairs": items.pair_images, "images": items.images, "texts": items.texts}[part.kind]
        for rows in metadata_between(origin, numbering, part.start, part.stop, columns):
            assert rows.table is not None
            count = len(rows.ids)
            texts = pa.nulls(count, pa.int64()) if text_ids is None else array_of(text_ids[done : done + count])
            yield _with_places(rows.table, schema, array_of(rows.ids), texts)
            done += count
            tell(count)

    write_parquet(file, schema, tables(), METADATA_ROWS)


def _ids(numbering: Numbering, part: _Part) -> NDArray[np.int64]:
    rows = [(shard << ROW_BITS) + rows for shard, rows in numbering.rows_between(part.start, part.stop)]
    return np.concatenate([np.empty(0, np.int64), *rows])


def _with_places(table: pa.Table, schema: pa.Schema, ids: pa.Array, texts: pa.Array) -> pa.Table:
    known = zip(*(table[name].to_pylist() for name in ("key", "uri", "modality")), strict=True)
    places = [uri if kind == "image" and not is_of_no_picture(key, uri) else "" for key, uri, kind in known]
    made = [pa.array([place.removeprefix("file://") for place in places], pa.string())]
    if URL in schema.names and URL not in table.column_names:
        urls = [place if place.startswith(("http://", "https://")) else None for place in places]
        made.append(pa.array(urls, pa.string()))
    return pa.Table.from_arrays([*made, *table.columns, ids, texts], schema=schema)


def _write_paths(origin: Origin, schema: pa.Schema, file: Path, _tell: Tell) -> None:
    shown = [field.name for field in schema if any(is_kind(field.type) for is_kind in _SHOWN)]
    nullable_numbers = ("width", "height", TEXT_ID)  # which pandas reads as floats, NaN where there is none
    options: dict[str, object] = {
        "indice_folder": ".",
        "enable_faiss_memory_mapping": True,
        "columns_to_return": [name for name in shown if name not in nullable_numbers],
        "enable_mclip_option": False,
        "use_jit": False,
        "provide_aesthetic_embeddings": False,
    }
    spec = origin.generation.request.encoder.spec
    if spec.startswith(_OPEN_CLIP) and ":" not in spec.removeprefix(_OPEN_CLIP) and "@" not in spec:
        options["clip_model"] = spec
    write_bytes(file, (json.dumps({"pixdex": options}, indent=1) + "\n").encode())


def _note(parts: list[_Part]) -> str:
    """How a build takes the folder in, where its files are of several kinds."""
    kinds = {kind: [part.number for part in parts if part.kind == kind] for kind in ("pairs", "images", "texts")}
    there = {kind: numbers for kind, numbers in kinds.items() if numbers}
    if len(there) < 2:
        return ""
    flags = []
    for kind, numbers in there.items():
        some = numbers[0] if len(numbers) == 1 else f"{{{numbers[0]}..{numbers[-1]}}}"
        for folder, modality in (("img_emb", "image"), ("text_emb", "text")):
            if (kind, folder) not in (("images", "text_emb"), ("texts", "img_emb")):
                vectors, metadata = f"{folder}/{folder}_{some}.npy", f"metadata/metadata_{some}.parquet"
                flags.append(f"--vectors '{vectors}' --metadata '{metadata}' --modality {modality}")
    return " ".join(flags)
