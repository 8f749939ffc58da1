"""What is found is counted, named, and crossed off once."""

import numpy as np

from tests.transforms.upkeep.verify.changed import delta_of
from transforms.generations.manifest import Generation
from transforms.records import row_ids
from transforms.storage.store import Store
from transforms.upkeep import row_set
from transforms.upkeep.report import MOST_FINDINGS, REBUILD, Finding, Report
from transforms.upkeep.row_set import RowSet
from transforms.upkeep.verify import verify


def test_rows_are_crossed_off_once() -> None:
    rows = RowSet({3: row_set.first_rows(20), 1: row_set.first_rows(65_536), 7: np.array([4], np.uint8)})
    assert rows.rows == 20 + 65_536 + 1
    first = np.concatenate([row_ids(1, 65_536), row_ids(3, 19)])
    assert rows.take(first[::-1]).tolist() == []
    assert (rows.rows, rows.example) == (2, (3 << 16) + 19)
    wrong = [-1, 1 << 16, (3 << 16) + 20, (5 << 16), (7 << 16) + 1, 1 << 50]
    assert rows.take(np.array([*wrong, (3 << 16) + 19, (3 << 16) + 19], np.int64)).tolist() == sorted(
        [*wrong, (3 << 16) + 19]
    )
    assert rows.rows == 1
    assert RowSet({}).take(np.array([5], np.int64)).tolist() == [5]


def test_a_report_keeps_a_thousand_findings_and_counts_all(store: Store) -> None:
    report = Report(store)
    for number in range(1500):
        report.found(f"lists/{number:04d}.ivf", "is missing")
    assert (len(report.findings), report.count) == (MOST_FINDINGS, 1500)
    assert report.findings[0] == Finding(f"{store.url}/lists/0000.ivf", f"is missing: {REBUILD}")


def test_what_a_reader_says_stands_in_a_finding_without_its_own_way_out(store: Store, generation: Generation) -> None:
    path = delta_of(store, generation)
    whole = store.read(path)
    store.overwrite(path, whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    (finding,) = verify(store, generation).findings
    assert finding.what.startswith("is damaged or truncated: the bodies of its lists ")
    assert finding.what.endswith(f"do not match their checksum: {REBUILD}")
