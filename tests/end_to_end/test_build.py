"""The whole build job, as a person runs it: sources in, one generation out, and what each further run does."""

import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import build, inspect
from tests.corpora import write_csv, write_pictures
from tests.end_to_end.builds import (
    EVERYTHING,
    TINY,
    TWICE,
    content,
    every_file,
    generation_of,
    leftovers,
    make_work_small,
    rejects_of,
    rows_of,
    run_here,
    write_corpus,
)
from tests.tiers import mostly_gate
from transforms.records import Plan
from transforms.runs.run import STAGES
from transforms.storage import layout
from transforms.storage.store import Store
from transforms.tasks.embed import shard as embed

SAID = {
    "generation", "items", "embedded", "rejected", "reject_reasons", "reject_reasons_left_out", "vectors",
    "tombstones", "index_key", "trained", "refine", "index", "left_out", "seconds", "spent", "limit",
}  # fmt: skip
Capture = pytest.CaptureFixture[str]

once_and_twice = pytest.mark.parametrize(
    "beam", [pytest.param((), id="bundles once"), pytest.param(TWICE, id="bundles twice", marks=pytest.mark.gate)]
)


@pytest.fixture(scope="module")
def pictures_of_six(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A root of six pictures that no test changes, and the command that made it."""
    folder = tmp_path_factory.mktemp("six")
    argv: list[object] = ["--root", folder / "root", "--csv", write_corpus(folder, 6), "--image-column", "image", *TINY]
    assert build.main([str(word) for word in argv]) == 0
    return folder / "root", argv


@once_and_twice
def test_a_row_with_picture_text_and_keywords_is_one_item_and_a_vector_for_each(
    tmp_path: Path, capsys: Capture, beam: tuple[str, ...]
) -> None:
    csv = write_corpus(tmp_path, 20)
    done = run_here(capsys, "--root", tmp_path / "root", "--csv", csv, *EVERYTHING, *TINY, *beam)
    assert done.code == 0, done.err
    said = done.said
    assert set(said) == SAID and len(done.out) == 1
    assert (said["generation"], said["items"], said["embedded"], said["rejected"], said["tombstones"]) == (
        1, 20, 20, 0, 0,
    )  # fmt: skip
    assert said["vectors"] == 80
    assert list(said["seconds"]) == list(STAGES)
    assert Path(said["index"]).is_file() and said["trained"] == generation_of(tmp_path / "root").trained.fingerprint
    totals = generation_of(tmp_path / "root").totals
    assert (totals.images, totals.texts, totals.keywords) == (20, 20, 40)
    rows = rows_of(tmp_path / "root", ["id", "modality", "part", "caption", "group"])
    assert [row[0] for row in rows] == list(range(80))
    assert [row[1] for row in rows] == ["image"] * 20 + ["text"] * 20 + ["keyword"] * 40
    assert rows[0][2:] == (0, "text 0", "g0") and rows[20][2:4] == (0, "text 0") and rows[41][2:4] == (1, "w0")
    assert leftovers(tmp_path / "root") == []


@once_and_twice
def test_pictures_of_globs_and_folders_with_columns_from_their_names(
    tmp_path: Path, capsys: Capture, beam: tuple[str, ...]
) -> None:
    write_pictures(tmp_path / "a", 7)
    write_pictures(tmp_path / "b" / "deep", 5, seed=1)
    done = run_here(
        capsys, "--root", tmp_path / "root", "--images", tmp_path / "a" / "*_p*[0-4].png", "--images", tmp_path / "b",
        "--key-pattern", "(?P<group>[^_]+)_p(?P<number>.+)", *TINY, *beam,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (done.said["items"], done.said["vectors"]) == (10, 10)
    rows = rows_of(tmp_path / "root", ["key", "group", "number"])
    assert rows[1] == (f"file://{tmp_path}/a/g0_p0003.png", "g0", "0003")
    assert [row[0].rpartition("/")[0] for row in rows[5:]] == [f"file://{tmp_path}/b/deep"] * 5


@once_and_twice
def test_pictures_and_csv_rows_together_fill_several_shards_and_blocks(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, beam: tuple[str, ...]
) -> None:
    make_work_small(monkeypatch)
    csv = write_corpus(tmp_path, 40)
    write_pictures(tmp_path / "more", 25, seed=1)
    done = run_here(
        capsys, "--root", tmp_path / "root", "--csv", csv, "--images", tmp_path / "more", *EVERYTHING, *TINY,
        "--index-key", "IVF4,Flat", *beam,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (done.said["items"], done.said["vectors"]) == (65, 185)
    totals = generation_of(tmp_path / "root").totals
    assert totals.shards > 5 and totals.blocks > 2
    ids = [row[0] for row in rows_of(tmp_path / "root", ["id"])]
    assert len({id >> 16 for id in ids}) == totals.shards and len(set(ids)) == 185
    assert leftovers(tmp_path / "root") == []


@pytest.mark.gate
def test_bundles_that_run_twice_change_no_byte(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_work_small(monkeypatch)
    csv = write_corpus(tmp_path, 30)
    for name, beam in (
        ("once", ()),
        ("twice", TWICE),
        ("threads", ("--direct_num_workers", "2", "--direct_running_mode=multi_threading")),
    ):
        assert run_here(capsys, "--root", tmp_path / name, "--csv", csv, *EVERYTHING, *TINY, *beam).code == 0
    assert content(tmp_path / "once") == content(tmp_path / "twice") == content(tmp_path / "threads")


def test_the_same_request_again_does_nothing_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    csv = write_corpus(tmp_path, 10)
    argv = ["--root", tmp_path / "root", "--csv", csv, *EVERYTHING, *TINY]
    first = run_here(capsys, *argv)
    before = every_file(tmp_path / "root")
    again = run_here(capsys, *argv)
    assert again.code == 0 and "nothing to do" in " ".join(again.err)
    of_root = {name: value for name, value in first.said.items() if name not in ("spent", "limit")}
    assert again.said == {**of_root, "embedded": 0, "seconds": {}}
    assert every_file(tmp_path / "root") == before
    other_ratio = run_here(capsys, *argv, "--max-reject-ratio", "0.1", "--abandon-plan")
    assert other_ratio.code == 0, "options that change no byte are no other request"
    assert every_file(tmp_path / "root") == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("--seed", "1"), "seed 0, not 1"),
        (("--index-key", "Flat"), "key 'auto', not 'Flat'"),
        (("--keyword-column", "words"), "other sources"),
        (("--encoder", "tests.encoders:OtherEncoder"), "tests.encoders:TinyEncoder, not tests.encoders:OtherEncoder"),
        (("--image-fit", "pad"), "with fingerprint"),
    ],
)
def test_another_request_on_the_root_is_refused_with_the_difference(
    pictures_of_six: tuple[Path, list[object]], capsys: Capture, change: tuple[str, ...], reason: str
) -> None:
    root, argv = pictures_of_six
    if change[0] in argv:
        place = argv.index(change[0])
        argv = argv[:place] + argv[place + 2 :]
    before = every_file(root)
    refused = run_here(capsys, *argv, *change)
    assert refused.code == 2 and refused.out == [] and len(refused.err) == 1
    assert reason in refused.err[0] and "'pixdex reindex'" in refused.err[0] and "new root" in refused.err[0]
    assert every_file(root) == before


def stop_after_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(embed, "embed_partition", fail)


@pytest.mark.gate
def test_an_unfinished_plan_of_another_request_is_kept_until_it_is_abandoned(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write_corpus(tmp_path, 6)
    argv = ["--root", tmp_path / "root", "--csv", csv, "--image-column", "image", *TINY]
    with monkeypatch.context() as patch:
        stop_after_plan(patch)
        assert run_here(capsys, *argv).code == 1
    refused = run_here(capsys, *argv, "--seed", "1")
    assert refused.code == 2 and len(refused.err) == 1
    assert "--abandon-plan" in refused.err[0] and "seed 0, not 1" in refused.err[0]
    store = Store.at(str(tmp_path / "root"))
    burned = store.read_record(layout.plan(1), Plan)
    done = run_here(capsys, *argv, "--seed", "1", "--abandon-plan")
    assert done.code == 0, done.err
    assert done.said["generation"] == 2
    assert store.read_record(layout.plan(2), Plan).first_shard == burned.first_shard + burned.shards == 1
    assert [row[0] >> 16 for row in rows_of(tmp_path / "root", ["id"])] == [1] * 6


@pytest.mark.gate
def test_the_unfinished_run_of_this_request_can_be_abandoned_too(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write_corpus(tmp_path, 6)
    argv = ["--root", tmp_path / "root", "--csv", csv, "--image-column", "image", *TINY]
    with monkeypatch.context() as patch:
        stop_after_plan(patch)
        assert run_here(capsys, *argv).code == 1
    assert run_here(capsys, *argv, "--abandon-plan").said["generation"] == 2


@pytest.mark.gate
def test_a_plan_is_not_abandoned_for_a_command_that_cannot_work(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write_corpus(tmp_path, 6)
    argv = ["--root", tmp_path / "root", "--csv", csv, "--image-column", "image", *TINY]
    with monkeypatch.context() as patch:
        stop_after_plan(patch)
        assert run_here(capsys, *argv).code == 1
    csv.unlink()
    refused = run_here(capsys, *argv, "--abandon-plan")
    assert refused.code == 2 and len(refused.err) == 1 and "rows.csv" in refused.err[0]
    done = run_here(capsys, *argv)
    assert (done.code, done.said["generation"], done.said["items"]) == (0, 1, 6)


@pytest.mark.gate
def test_a_run_goes_on_with_its_plan_when_the_csv_was_edited_or_removed_meanwhile(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write_corpus(tmp_path, 6)
    argv = ["--csv", csv, *EVERYTHING, *TINY]
    assert run_here(capsys, "--root", tmp_path / "clean", *argv).code == 0
    for name in ("edited", "removed"):
        with monkeypatch.context() as patch:
            stop_after_plan(patch)
            assert run_here(capsys, "--root", tmp_path / name, *argv).code == 1
    csv.write_text("image,other\n", encoding="utf-8")
    assert run_here(capsys, "--root", tmp_path / "edited", *argv).code == 0
    csv.unlink()
    assert run_here(capsys, "--root", tmp_path / "removed", *argv).code == 0
    assert content(tmp_path / "clean") == content(tmp_path / "edited") == content(tmp_path / "removed")


@pytest.mark.gate
def test_a_picture_removed_between_plan_and_embed_becomes_a_reject(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 6)
    argv = ["--root", tmp_path / "root", "--images", tmp_path / "pictures", *TINY]
    with monkeypatch.context() as patch:
        stop_after_plan(patch)
        assert run_here(capsys, *argv).code == 1
    pictures[2].unlink()
    done = run_here(capsys, *argv)
    assert (done.code, done.said["items"], done.said["embedded"], done.said["rejected"]) == (0, 6, 5, 1)
    (reject,) = rejects_of(tmp_path / "root")
    assert (reject["uri"], reject["stage"], reject["type"]) == (f"file://{pictures[2]}", "fetch", "FileNotFoundError")


def break_pictures(pictures: list[Path]) -> None:
    for picture in pictures:
        picture.write_bytes(b"no picture")


@once_and_twice
def test_too_many_rejects_publish_nothing_and_a_higher_limit_goes_on_without_embedding_again(
    tmp_path: Path, capsys: Capture, beam: tuple[str, ...]
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 10)
    break_pictures(pictures[:6])
    argv = ["--root", tmp_path / "root", "--images", tmp_path / "pictures", *TINY, *beam]
    failed = run_here(capsys, *argv)
    assert failed.code == 1 and failed.out == []
    assert "6 of 10 items were rejected" in failed.err[-1] and "--max-reject-ratio" in failed.err[-1]
    assert not (tmp_path / "root" / "generations").exists()
    embedded = {name: when for name, when in every_file(tmp_path / "root").items() if name.startswith("embeddings")}
    done = run_here(capsys, *argv, "--max-reject-ratio", "0.6")
    assert (done.code, done.said["embedded"], done.said["rejected"]) == (0, 4, 6), done.err
    assert embedded.items() <= every_file(tmp_path / "root").items()


def test_a_build_that_failed_on_its_rejects_is_mended_by_mending_the_sources(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "pictures"
    break_pictures(write_pictures(folder, 10)[:6])
    argv = ["--images", folder, *TINY]
    failed = run_here(capsys, "--root", tmp_path / "root", *argv)
    assert "mend the sources and run the same command again" in failed.err[-1]
    assert inspect.main(["--root", str(tmp_path / "root"), "--rejects"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("\tdecode\tUnidentifiedImageError\t") == len(listed.splitlines()) == 6

    write_pictures(folder, 10)
    done = run_here(capsys, "--root", tmp_path / "root", *argv)
    assert (done.code, done.said["embedded"], done.said["rejected"]) == (0, 10, 0), done.err
    assert run_here(capsys, "--root", tmp_path / "anew", *argv).code == 0
    columns = ["key", "version", "embedding"]
    assert rows_of(tmp_path / "root", columns) == rows_of(tmp_path / "anew", columns)


def test_when_all_items_are_rejected_nothing_is_published_whatever_the_limit(tmp_path: Path, capsys: Capture) -> None:
    pictures = write_pictures(tmp_path / "pictures", 3)
    break_pictures(pictures)
    failed = run_here(
        capsys, "--root", tmp_path / "root", "--images", tmp_path / "pictures", *TINY, "--max-reject-ratio", "1"
    )
    assert failed.code == 1 and "all 3 items were rejected" in failed.err[-1]
    assert not (tmp_path / "root" / "generations").exists()


@pytest.mark.parametrize("syncs", mostly_gate([3, 12, 20, 30, 40], quick=[12]))
def test_a_full_disk_is_one_clear_line_and_the_same_command_goes_on(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, syncs: int
) -> None:
    csv = write_corpus(tmp_path, 6)
    argv = ["--root", tmp_path / "root", "--csv", csv, "--image-column", "image", *TINY]
    real, left = os.fsync, [syncs]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        failed = run_here(capsys, *argv)
    assert failed.code == 1 and failed.out == []
    assert "No space left on device" in failed.err[-1] and "Traceback" not in " ".join(failed.err)
    assert not list((tmp_path / "root" / "generations").glob("*.json"))
    done = run_here(capsys, *argv)
    assert (done.code, done.said["vectors"]) == (0, 6), done.err


NAMES = ["a b", "그림 폴더", 'it\'s "quoted"', "a#b", "100%", "a%20b", "semi;colon", "ünï"]


def test_paths_may_hold_any_character(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path.joinpath(*NAMES)
    plain = write_pictures(folder / "pictures", len(NAMES))
    odd = [picture.rename(picture.with_name(f"x {name}.png")) for picture, name in zip(plain, NAMES, strict=True)]
    csv = write_csv(folder / f"{' '.join(NAMES)}.csv", odd)
    done = run_here(
        capsys, "--root", folder / "root", "--csv", csv, *EVERYTHING, *TINY, "--images", folder / "pictures"
    )
    assert done.code == 0, done.err
    assert (done.said["items"], done.said["rejected"], done.said["vectors"]) == (16, 0, 40)
    assert Path(done.said["index"]).is_file()
    assert {(f"file://{picture}",) for picture in odd} <= set(rows_of(folder / "root", ["uri"]))


def test_relative_paths_mean_the_working_directory(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, 4)
    monkeypatch.chdir(tmp_path / "pictures")
    argv = ["--csv", "../rows.csv", "--image-column", "image", *TINY]
    assert run_here(capsys, "--root", "../root", *argv).code == 0
    monkeypatch.chdir(tmp_path)
    again = run_here(capsys, "--root", "root", "--csv", "rows.csv", *argv[2:])
    assert again.code == 0 and again.said["embedded"] == 0


def test_a_root_inside_the_folder_of_pictures_is_no_source(tmp_path: Path, capsys: Capture) -> None:
    write_pictures(tmp_path / "pictures", 4)
    argv = ["--root", tmp_path / "pictures" / "root", "--images", tmp_path / "pictures", *TINY]
    assert run_here(capsys, *argv).said["items"] == 4
    assert run_here(capsys, *argv).said["embedded"] == 0


def test_sources_are_only_read(tmp_path: Path, capsys: Capture) -> None:
    csv = write_corpus(tmp_path / "data", 4)
    before = every_file(tmp_path / "data")
    for path in (tmp_path / "data" / "pictures", tmp_path / "data"):
        path.chmod(0o555)
    try:
        assert run_here(capsys, "--root", tmp_path / "root", "--csv", csv, *EVERYTHING, *TINY).code == 0
    finally:
        for path in (tmp_path / "data", tmp_path / "data" / "pictures"):
            path.chmod(0o755)
    assert every_file(tmp_path / "data") == before


def test_a_shard_is_ordinary_parquet(tmp_path: Path, capsys: Capture) -> None:
    csv = write_corpus(tmp_path, 4)
    assert run_here(capsys, "--root", tmp_path / "root", "--csv", csv, *EVERYTHING, *TINY).code == 0
    (shard,) = (tmp_path / "root" / "embeddings").rglob("*.parquet")
    table = pq.read_table(shard)
    assert table.column_names == [
        "id", "key", "uri", "modality", "part", "caption", "version", "width", "height", "embedding",
        "image", "name", "group", "description", "words",
    ]  # fmt: skip
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[16]"


def test_help_is_the_manual(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        build.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "On a Flink cluster" in text and "--max-reject-ratio" in text and "--index-key" in text
