"""Every member of an archive is found, as other tools write it; and what is no archive, or damaged, is refused."""

import gzip
import io
import os
import random
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.sources.row_sources import packed, tar_of
from transforms.errors import UsageError
from transforms.sources.tars.members import Member, members
from transforms.storage.tar_members import BLOCK

DAMAGED = {"ci": 1000, "thorough": 10_000}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 200)
FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def found_in(data: bytes) -> list[Member]:
    return list(members(io.BytesIO(data), len(data), "file:///x.tar"))


def contents(data: bytes) -> dict[str, bytes]:
    return {member.name: data[member.start : member.start + member.size] for member in found_in(data)}


def block(name: bytes, size: int = 0, kind: bytes = b"0", *, field: bytes | None = None, **more: bytes) -> bytes:
    """Returns a header of whatever is asked for, with a checksum that is right."""
    data = bytearray(BLOCK)
    data[: len(name)] = name
    data[124:136] = field or b"%011o\0" % size
    data[156:157] = kind
    data[257:265] = b"ustar\x0000"
    for place, value in more.items():
        start = int(place.removeprefix("at"))
        data[start : start + len(value)] = value
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def filled(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


END = bytes(2 * BLOCK)
GOOD = block(b"a.jpg", 3) + filled(b"abc")


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=300).filter(
            lambda name: name not in (".", "..")
        ),
        st.binary(max_size=1500),
        max_size=5,
    ),
    st.sampled_from(FORMS[1:]),
)
def test_all_that_python_writes_is_read(wanted: dict[str, bytes], form: int) -> None:
    assert contents(tar_of(wanted, form)) == wanted


@pytest.mark.parametrize("form", ["v7", "ustar", "gnu", "oldgnu", "posix"])
def test_all_that_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    long = "long-" * (18 if form in ("v7", "ustar") else 45)
    wanted = {"d/a.jpg": b"a" * 1000, f"d/{long}.jpg": b"b", "d/한글.txt": "한글".encode(), "d/empty": b""}
    for name, content in wanted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d/link").symlink_to("a.jpg")
    (tmp_path / "d/hard").hardlink_to(tmp_path / "d/a.jpg")
    if form != "v7":  # which knows none
        os.mkfifo(tmp_path / "d/pipe")
    if form in ("oldgnu", "gnu", "posix"):
        with (tmp_path / "d/sparse").open("wb") as stream:
            for place in range(60):  # more pieces than one header has room for
                stream.seek(place << 17)
                stream.write(b"x" * 5000)
    (tmp_path / "d/z.jpg").write_bytes(b"last")
    kinds = ["--sparse"] if form in ("oldgnu", "gnu", "posix") else []
    subprocess.run(["tar", "-cf", "x.tar", f"--format={form}", "--sort=name", *kinds, "d"], cwd=tmp_path, check=True)
    data = (tmp_path / "x.tar").read_bytes()
    found = {member.name: member for member in found_in(data)}
    files = {name: member for name, member in found.items() if member.kind == "file"}
    wanted |= {"d/z.jpg": b"last"}
    wanted |= {"d/hard": wanted["d/a.jpg"]} if found["d/a.jpg"].kind == "link" else {}
    assert {name: data[one.start : one.start + one.size] for name, one in files.items()} == {
        name: content for name, content in wanted.items() if found[name].kind == "file"
    }
    assert sorted([found["d/a.jpg"].kind, found["d/hard"].kind]) == ["file", "link"]
    others = {"d": "folder", "d/link": "link"} | ({"d/pipe": "special"} if form != "v7" else {})
    others |= {"d/sparse": "sparse"} if kinds else {}
    assert {name: found[name].kind for name in others} == others
    assert all(member.is_sized for member in files.values())


def test_names_are_only_names_and_bytes_that_are_no_text_are_spelled() -> None:
    names = [b"/etc/passwd.jpg", b"../../a.jpg", b"C:\\a.jpg", b"\xff\xfe.jpg", b"%FF.jpg", b"./a.jpg"]
    data = b"".join(block(name) for name in names) + END
    assert [member.name for member in found_in(data)] == [
        "/etc/passwd.jpg", "../../a.jpg", "C:\\a.jpg", "%FF%FE.jpg", "%FF.jpg", "./a.jpg",
    ]  # fmt: skip


def test_archives_behind_each_other_and_odd_ends_lose_nothing() -> None:
    assert list(contents(GOOD + END + bytes(10240) + block(b"b.jpg") + END)) == ["a.jpg", "b.jpg"]
    assert list(contents(GOOD + bytes(BLOCK))) == ["a.jpg"]
    assert list(contents(GOOD + END + bytes(100))) == ["a.jpg"]
    assert list(contents(GOOD + bytes(3_000_000 - 3_000_000 % BLOCK) + block(b"b.jpg") + END)) == ["a.jpg", "b.jpg"]
    assert contents(END) == {}


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return block(b"records", len(records), kind) + filled(records)


def test_what_pax_records_say_counts() -> None:
    data = pax(b"18 path=other.jpg\n" + b"10 size=3\n") + block(b"a.jpg", 999_999)
    (member,) = found_in(data + filled(b"abc") + END)
    assert (member.name, member.size, member.is_sized) == ("other.jpg", 3, False)
    data = pax(b"22 GNU.sparse.major=1\n" + b"26 GNU.sparse.name=s.jpeg\n") + block(b"x", 3) + filled(b"abc")
    (member, other) = found_in(data + GOOD + END)
    assert (member.name, member.kind, other.kind) == ("s.jpeg", "sparse", "file")
    assert [one.name for one in found_in(pax(b"18 comment=of git\n", b"g") + GOOD + END)] == ["a.jpg"]


HUGE = block(b"a.jpg", field=b"\x80" + b"\0" * 3 + b"\x7f" * 8)
REFUSED = {
    "no bytes": (b"", "is empty, and no tar archive"),
    "text": (b"hello " * 200, "is no tar archive: name one that tar made"),
    "a few bytes": (b"PK\3\4", "is no tar archive"),
    "gzip": (gzip.compress(GOOD + END), "is compressed with gzip, .* unpack it .gunzip makes a .tar"),
    "zstd": (packed(GOOD + END, ".zst"), "is compressed with zstd"),
    "no end": (GOOD, "is cut short behind 'a.jpg': it has 1024 bytes, and not the zeros"),
    "cut in a header": (GOOD + block(b"b.jpg")[:100], "is cut short behind 'a.jpg'"),
    "cut in a picture": (GOOD + block(b"b.jpg", 3) + b"ab", "is cut short in 'b.jpg'"),
    "cut in the filling": (GOOD + block(b"b.jpg", 3) + b"abc", "is cut short behind 'b.jpg'"),
    "a size beyond the end": (GOOD + block(b"b.jpg", 8**11 - 1) + filled(b"abc") + END, "is cut short in 'b.jpg'"),
    "a huge size": (GOOD + HUGE, "a number in it is negative or huge"),
    "a negative size": (GOOD + block(b"b", field=b"\xff" * 12), "a number in it is negative or huge"),
    "a size that is none": (GOOD + block(b"b", field=b"1_0\0" + bytes(8)), "a number in it is none"),
    "garbage in the middle": (GOOD + b"\1" * BLOCK + GOOD + END, "at byte 1024, behind 'a.jpg', is no header of"),
    "garbage behind the end": (GOOD + END + b"\1" * BLOCK, "at byte 2048, behind its end, is no header of a member"),
    "a hole": (GOOD + bytes(4096) + b"middle of a picture" * 99 + END, "at byte 5120, behind its end"),
    "a huge name": (block(b"L", 1 << 30, b"L") + bytes(4096), "says that a name or records of 1073741824 bytes follow"),
    "huge records": (block(b"x", 1 << 33, b"x") + bytes(4096), "of 1048576 at most"),
    "a name of nothing": (GOOD + block(b"L", 3, b"L") + filled(b"b.j") + END, "at byte 2048, behind 'a.jpg'"),
    "a name at the end": (GOOD + block(b"L", 3, b"L") + filled(b"b.j"), "is cut short behind 'a.jpg'"),
    "records that are none": (pax(b"5 a=b\n") + GOOD + END, "has pax records that are none"),
    "records of length 0": (pax(b"0 a=b\n") + GOOD + END, "has pax records that are none"),
    "a record beyond the others": (pax(b"99 a=b\n") + GOOD + END, "has pax records that are none"),
    "a negative size in records": (pax(b"11 size=-1\n") + GOOD + END, "has pax records that are none"),
    "records of all members": (pax(b"10 path=x\n", b"g") + GOOD + END, "a header that says 'path' of all members"),
    "odd records of all": (pax(b"18 GNU.sparse.\xff\n=\n", b"g") + GOOD + END, r"says 'GNU.sparse.\ufffd.n' of all"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_lose_a_member_is_refused_in_one_line(name: str) -> None:
    data, words = REFUSED[name]
    tracemalloc.start()
    with pytest.raises(UsageError, match=f"^--tars file:///x.tar .*{words}") as error:
        found_in(data)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert "\n" not in str(error.value)


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    for seed in range(count):
        choose, changed = random.Random(seed), bytearray(data)
        for _ in range(choose.choice([1, 1, 2, 5])):
            place = choose.randrange(len(changed) or 1)
            match choose.randrange(5):
                case 0:
                    changed[place : place + 1] = bytes([choose.randrange(256)])
                case 1:
                    del changed[place : place + choose.choice([1, 8, BLOCK])]
                case 2:
                    changed[place:place] = choose.choice([b"\xff", b"\0" * BLOCK, GOOD, block(b"x", 99, b"x")])
                case 3:
                    start = place // BLOCK * BLOCK
                    changed[start : start + BLOCK] = choose.choice(
                        [bytes(BLOCK), block(b"y", 3, b"S", at482=b"\1"), HUGE]
                    )
                case _:
                    del changed[place:]
        yield bytes(changed)


def test_a_damaged_archive_is_refused_or_read_and_nothing_else() -> None:
    whole = b"".join((
        tar_of({"a.jpg": b"abc", "a.txt": b"words", "n" * 200 + ".png": b"x" * 700}, tarfile.GNU_FORMAT)[:-10240],
        tar_of({"한글.jpg": b"abc", "p" * 300 + ".json": b"{}"}),
    ))  # fmt: skip
    outcomes = {"refused": 0, "read": 0}
    for data in damaged(whole, DAMAGED):
        try:
            found = found_in(data)
        except UsageError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert all(0 <= one.start <= one.start + one.size <= len(data) for one in found)
            outcomes["read"] += 1
    assert min(outcomes.values()) > DAMAGED // 100
