"""Pictures that are in a file with others are on the page, too."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import build, report
from tests.corpora import write_pictures
from tests.pipelines.report.conftest import said_by
from tests.pipelines.report.pages import TINY, Page
from tests.transforms.sources.row_sources import tar_of


def shown_of(root: Path) -> list[str]:
    """The pictures of a page, which has a placeholder for none."""
    page = Page.at(root / "reports/000001/index.html")
    assert "no picture" not in page.text
    return [address for address in page.loads if address.startswith("data:image/jpeg")]


def test_pictures_in_a_column_of_parquet(tmp_path: Path) -> None:
    files = [file.read_bytes() for file in write_pictures(tmp_path / "pictures", 20)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": each} for each in files], kind)}), tmp_path / "rows.parquet")
    words = ("--parquet", tmp_path / "rows.parquet", "--image-column", "image", *TINY)
    said_by(build.main, "--root", tmp_path / "root", *words)
    assert len(shown_of(tmp_path / "root")) > 10


def test_members_of_an_archive(tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in write_pictures(tmp_path / "pictures", 20)}
    (tmp_path / "shard.tar").write_bytes(tar_of(files))
    said_by(build.main, "--root", tmp_path / "root", "--tars", tmp_path / "shard.tar", *TINY)
    assert len(shown_of(tmp_path / "root")) > 10


def test_a_page_with_pictures_is_kept_while_none_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "pictures", 20)
    said_by(build.main, "--root", tmp_path / "root", "--images", tmp_path / "pictures", *TINY)
    (tmp_path / "pictures").rename(tmp_path / "away")
    words = ["--root", str(tmp_path / "root")]
    capsys.readouterr()
    assert report.main(words) == 2
    assert "it is kept; make the sources readable, or replace it with --without-pictures" in capsys.readouterr().err
    assert len(shown_of(tmp_path / "root")) > 10
    assert report.main([*words, "--without-pictures"]) == 0
    assert "data:image/jpeg" not in (tmp_path / "root/reports/000001/index.html").read_text()
