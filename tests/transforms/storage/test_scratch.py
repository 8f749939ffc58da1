"""Temporary folders: those of the dead are told from those of the living, and from those of other hosts."""

import os
import socket
import subprocess
import sys

from transforms.storage import layout
from transforms.storage.store import Store


def test_only_folders_of_dead_processes_of_this_machine_are_swept(folder: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    kept = {
        f"{host}-{os.getpid()}-abcd",
        f"{host}-1-abcd",
        f"other-{dead.pid}-abcd",
        f"{host}-{dead.pid}-{os.getpid()}-abcd",  # of a host whose name begins like this one's
        "notes",
    }
    parent = folder.local_path(layout.SCRATCH)
    for name in [*kept, f"{host}-{dead.pid}-abcd"]:
        (parent / name).mkdir(parents=True)
        (parent / name / "half.parquet").write_bytes(b"half")

    folder.sweep_scratch()

    assert {path.name for path in parent.iterdir()} == kept


def test_temporary_files_of_other_hosts_are_told_from_those_of_this_one(folder: Store) -> None:
    here = socket.gethostname()
    for name in (f"{here}-1-x", f"{here}-2-1-x", "another-host-1-x"):
        folder.create(f"{layout.SCRATCH}/{name}/half", b"half")

    found = {file.path.split("/")[1] for file in folder.scratch_of_others()}

    assert found == {f"{here}-2-1-x", "another-host-1-x"}, (
        "the host of the first of them is called like this one and -2"
    )
