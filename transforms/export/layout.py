"""What a layout says: its files, and what a person should know of them."""

from dataclasses import dataclass

from transforms.export.destination import ExportFile


@dataclass(frozen=True)
class Layout:
    """The files of an export.

    Attributes:
        rows: what it holds: vectors, or items where several vectors are one row.
        files: in the order in which they are written; one may read those before it.
        note: what is to be done to take it in again, where that does not go without saying; empty: nothing.
    """

    rows: int
    files: tuple[ExportFile, ...]
    note: str = ""
