"""What Beam is told a job reads and writes: lineage, which runners keep beside their metrics."""

from urllib.parse import unquote, urlsplit

from apache_beam.metrics.metric import Lineage

from transforms.runs.run import Run
from transforms.storage.addresses import without_credentials

_SYSTEMS = {"file": "filesystem", "gs": "gcs", "s3": "s3", "memory": "memory"}
"""As Beam's own file systems name themselves; of others the protocol is the name."""


def report_sources(run: Run) -> None:
    """Reports the sources of a run, and what stands beside ready embeddings."""
    for source in run.request.sources:
        for url in (source.pattern, source.text_vectors, source.metadata):
            if url is not None:
                _report(Lineage.sources(), url)


def report_root(run: Run) -> None:
    """Reports the root, which is written."""
    _report(Lineage.sinks(), run.store.url)


def segments_of(url: str) -> tuple[str, ...]:
    """Returns the system and the segments that name what a URL names: without user, password and query.

    >>> segments_of("gs://bucket/a/*.png"), segments_of("https://me:secret@example.org/rows.csv?token=1")
    (('gcs', 'bucket', 'a/*.png'), ('https', 'example.org', 'rows.csv'))
    >>> segments_of("file:///data/a b.csv")
    ('filesystem', 'localhost', '/data/a b.csv')
    """
    protocol, _, rest = without_credentials(url).partition("://")
    system = _SYSTEMS.get(protocol, protocol)
    if protocol == "file":
        return system, "localhost", rest
    if protocol in _SYSTEMS:
        bucket, _, name = rest.partition("/")
        return tuple(part for part in (system, bucket, name) if part)
    parts = urlsplit(f"{protocol}://{rest}")
    return tuple(part for part in (system, parts.netloc, unquote(parts.path.lstrip("/"))) if part)


def _report(lineage: Lineage, url: str) -> None:
    system, *segments = segments_of(url)
    lineage.add(system, *segments, last_segment_sep="/")
