"""The words of a job on Dataflow that tests give, with all that it asks for."""

import uuid
from collections.abc import Sequence
from typing import Final

IMAGE: Final = "some-registry/pixdex:1"
FLAGS: Final = ("--project", "some-project", "--region", "europe-west1", "--sdk_container_image", IMAGE)
DRY: Final = ("--dry_run=True", "--no_auth")


def argv(bucket: str, *more: str, flags: Sequence[str] = (*FLAGS, *DRY)) -> list[str]:
    """A command with a root of its own."""
    return [
        *("--root", f"{bucket}/{uuid.uuid4().hex}", "--csv", f"{bucket}/rows.csv", "--text-column", "text"),
        *("--encoder", "tests.encoders:TinyEncoder", "--no-progress", "--runner", "DataflowRunner"),
        *("--temp_location", f"{bucket}/temp", *flags, *more),
    ]
