"""What Beam is told a job reads and writes."""

from pathlib import Path

from apache_beam.metrics.metric import Lineage

from tests.corpora import write_pictures
from tests.transforms.small_runs import begin, pictures, pipeline
from transforms.records import Source
from transforms.stages.lineage import segments_of
from transforms.stages.plan import PlanItems


def test_sources_and_root_are_in_the_metrics_of_the_runner(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 3)
    (tmp_path / "texts.csv").write_text("text\na\nb\n")
    texts = Source("csv", f"file://{tmp_path}/texts.csv", text_column="text")
    run = begin(tmp_path / "root", pictures(tmp_path / "pictures"), texts)
    for _ in range(2):  # a run that goes on reads the same, though it lists nothing
        p = pipeline()
        _ = p | PlanItems(run, 0)
        result = p.run()
        result.wait_until_finish()
        assert Lineage.query(result.metrics(), Lineage.SOURCE) == {
            f"filesystem:localhost.{tmp_path}/pictures",
            f"filesystem:localhost.{tmp_path}/texts.csv",
        }
        assert Lineage.query(result.metrics(), Lineage.SINK) == {f"filesystem:localhost.{tmp_path}/root"}


def test_no_name_has_a_user_a_password_or_a_query() -> None:
    for url in (
        "https://me:secret@example.org/a/rows.csv?token=secret#secret",
        "s3://key:secret@bucket/a/rows.csv",
        "ftp://me:secret@example.org/a/rows.csv",
    ):
        assert "secret" not in "".join(segments_of(url))
        assert segments_of(url)[-1] == "a/rows.csv"


def test_a_sign_in_a_path_is_no_user() -> None:
    assert segments_of("s3://bucket/photos@2x/*.png") == ("s3", "bucket", "photos@2x/*.png")
    assert segments_of("gs://bucket/a@b") == ("gcs", "bucket", "a@b")
    assert segments_of("s3://key:secret@bucket/photos@2x/*.png") == ("s3", "bucket", "photos@2x/*.png")
    assert segments_of("https://me:secret@host/photos@2x/a.csv") == ("https", "host", "photos@2x/a.csv")
    assert segments_of("memory://me@here") == ("memory", "here")
