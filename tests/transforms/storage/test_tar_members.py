"""Headers of tar archives, as other tools write them, and the URIs of members, which are read alone."""

import io
import tarfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.storage import tar_members, uris
from transforms.storage.outside import Outside
from transforms.storage.tar_members import BLOCK

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


def header(info: tarfile.TarInfo, form: Literal[0, 1, 2]) -> bytes:
    return info.tobuf(form, errors="surrogateescape")[-BLOCK:]


@given(NAMES, st.integers(0, 8**11 - 1), st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]), st.data())
def test_a_header_says_what_was_written(name: str, size: int, form: Literal[0, 1], data: st.DataObject) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    info.type = data.draw(st.sampled_from([tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE]))
    found = tar_members.header_of(header(info, form))
    assert (found.name, found.size, found.kind) == (name.encode()[:100], size, info.type)
    assert found.is_file == (info.type != tarfile.SYMTYPE and not found.name.endswith(b"/"))


def test_a_size_of_many_bytes_and_a_name_in_two_parts_are_read() -> None:
    info = tarfile.TarInfo("folder/" * 20 + "a.jpg")
    info.size = 8**11
    assert tar_members.header_of(header(info, tarfile.GNU_FORMAT)).size == 8**11
    info.size = 7
    assert tar_members.header_of(header(info, tarfile.USTAR_FORMAT)).name == info.name.encode()


@given(st.binary(min_size=BLOCK, max_size=BLOCK))
def test_bytes_that_are_no_header_are_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(a number in it|its checksum) is"):
        tar_members.header_of(block)


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_no_byte_of_a_header_changes_unseen(place: int, change: int) -> None:
    block = bytearray(header(tarfile.TarInfo("name.jpg"), tarfile.PAX_FORMAT))
    before = tar_members.header_of(bytes(block))
    block[place] ^= change
    try:
        found = tar_members.header_of(bytes(block))
    except ValueError:
        return
    assert found == before and 148 <= place < 156  # the checksum itself may be spelled in several ways


@pytest.mark.parametrize(
    "uri",
    [
        "file:///a.tar", "file:///a.tar#3", "file:///a#bytes=-1+2", "file:///a#bytes=1+2", "#bytes=600+1",
        "file:///a.tar#bytes=512+1 ", "file:///a.tar#bytes=512", "file:///a.tar#bytes=٥١٢+1",
    ],
)  # fmt: skip
def test_other_uris_are_of_no_member(uri: str) -> None:
    assert tar_members.place_of(uri) is None and tar_members.archive_of(uri) == uri


def archive(file: Path, **members: bytes) -> dict[str, str]:
    """Writes an archive; returns the URIs of its members."""
    found = {}
    with tarfile.open(file, "w") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            found[name] = tar_members.uri_of(f"file://{file}", opened.offset + BLOCK, len(content))
            opened.addfile(info, io.BytesIO(content))
    return found


def test_a_member_is_read_alone_and_one_that_is_there_no_more_is_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    found = archive(file, one=b"1" * 700, two=b"2" * 10)
    assert [uris.read(uri) for uri in found.values()] == [b"1" * 700, b"2" * 10]
    assert b"".join(uris.locate(found["one"]).pieces()) == b"1" * 700
    with pytest.raises(uris.ObjectTooLargeError):
        uris.read(found["one"], 699)
    archive(file, zero=b"", one=b"1" * 700, two=b"2" * 11)
    for uri in found.values():
        with pytest.raises(OSError, match="member of"):
            uris.read(uri)
    for uri in (tar_members.uri_of(f"file://{file}", 1024, 10**12), tar_members.uri_of(f"file://{tmp_path}/b", 512, 1)):
        with pytest.raises((OSError, uris.ObjectTooLargeError)):
            uris.read(uri)
    with pytest.raises(OSError, match="ends before"):
        uris.read(tar_members.uri_of(f"file://{file}", 10**9, 10))


def test_a_file_that_is_called_like_a_member_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a#bytes=600+3").write_bytes(b"itself")
    assert uris.read(f"file://{tmp_path}/a#bytes=600+3") == b"itself"


def test_a_member_may_be_read_where_its_archive_may(tmp_path: Path) -> None:
    found = archive(tmp_path / "a.tar", one=b"1")
    assert Outside((f"file://{tmp_path}/a.tar",)).read(found["one"]) == b"1"
    assert Outside((f"file://{tmp_path}/",)).refusal(found["one"]) is None
    for places in ((f"file://{tmp_path}/other.tar",), (f"file://{tmp_path}/a.tar#bytes=512+1",), ()):
        assert Outside(places).refusal(found["one"]) == "is not among the sources of the root"
    assert Outside((f"file://{tmp_path}/",)).refusal(f"file://{tmp_path}/../x.tar#bytes=512+1") is not None
