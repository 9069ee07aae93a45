"""The map of what can be restored is true: its ends can be restored, and nothing behind them."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import ErrorKind, RecoveryError
from opskit.model.lsn import Lsn
from opskit.model.wal import WalSegment
from opskit.operations.recoverable import recoverable_intervals
from opskit.reports.charts import recoverability_chart
from opskit.store import open_store
from tests.servers import ServerFactory
from tests.support.clusters import ClusterMaker
from tests.support.streams import caught_up, streaming

COLUMNS = {
    "from_at": "datetime64[us, UTC]",
    "to_at": "datetime64[us, UTC]",
    "from_lsn": "string",
    "to_lsn": "string",
    "timeline": "Int64",
    "backup": "string",
    "wal_bytes": "Int64",
    "stored_bytes": "Int64",
    "ends_because": "string",
}
EVENTS = "CREATE TABLE events (n serial)"
HAPPEN = "INSERT INTO events DEFAULT VALUES"
COUNT = "SELECT count(*) FROM events"
HERE = "the archive ends here"


@pytest.mark.parametrize("programs", [15, 18], indirect=True)
def test_both_ends_of_an_interval_can_be_restored_and_nothing_behind(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Two backups and a segment that somebody removed between them: where each leads to, and why no further."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    assert main.recoverable().dtypes.astype(str).to_dict() == COLUMNS
    with streaming(source, main.repository):
        source.query(EVENTS)
        first = main.create_backup()
        source.query(HAPPEN)
        source.query("SELECT pg_switch_wal()")
        lsn = Lsn.parse(source.query("SELECT pg_current_wal_insert_lsn()::text").rows[0][0])
        removed = WalSegment.holding(lsn, 1, 1 << 20)
        source.query(HAPPEN)
        source.query("SELECT pg_switch_wal()")
        second = main.create_backup()
        source.query(HAPPEN)
        caught_up(source, lambda: main.repository.known_wal("main"))
    whole = main.recoverable()
    assert whole.dtypes.astype(str).to_dict() == COLUMNS
    assert list(whole["backup"]) == [second.name, first.name]
    assert set(whole["ends_because"]) == {HERE}
    assert whole["to_at"].nunique() == 1 and whole["to_lsn"].nunique() == 1
    assert list(whole["from_at"]) == [second.stopped_at, first.stopped_at]
    assert (whole["stored_bytes"].diff().dropna() > 0).all()

    name = removed.name
    open_store(main.settings.repository_url).delete(f"main/wal/{name[:8]}/{name[8:16]}/{name}.zst")
    behind, before = (row for _, row in main.recoverable().iterrows())
    assert behind.equals(whole.iloc[0])
    assert (before["backup"], before["ends_because"]) == (first.name, f"segment {name} is missing")
    assert before["wal_bytes"] == Lsn.parse(before["to_lsn"]) - first.stop_lsn > 0
    for row in (before, behind):
        assert_reached(main, scratch / "nowhere", row)
    intervals = recoverable_intervals(main.repository, "main", main.settings.postgres)
    assert f"segment {name} is missing; timeline 1:" in recoverability_chart(intervals).text
    to_at = before["to_at"].to_pydatetime()
    with main.restore(scratch / "copy", at=to_at).started() as copy:
        assert copy.server.query(COUNT).rows == [(1,)]


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_backup_leads_to_each_timeline_that_branched_off_behind_it(
    server: ServerFactory,
    cluster: ClusterMaker,
    scratch: Path,
    settings: Callable[..., Settings],
) -> None:
    """After a recovered copy took over, the old timeline ends where the new one branched off."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    with streaming(source, main.repository):
        source.query(EVENTS)
        backup = main.create_backup()
        source.query(HAPPEN)
        caught_up(source, lambda: main.repository.known_wal("main"))
    source.stop()
    with main.restore(scratch / "heir", latest=True).started() as copy:
        settings(copy.server)
        with streaming(copy.server, main.repository):
            copy.server.query(HAPPEN)
            caught_up(copy.server, lambda: main.repository.known_wal("main"), timeline=2)
    found = main.recoverable()
    assert list(found["timeline"]) == [2, 1]
    assert set(found["backup"]) == {backup.name}
    new, old = found["ends_because"]
    assert new == HERE
    assert old.startswith("timeline 2 branched off at 0/")
    assert found["to_at"][0] > found["to_at"][1]
    assert_reached(main, scratch / "nowhere", found.iloc[0])


@pytest.mark.parametrize("programs", [18], indirect=True)
def test_a_backup_without_its_wal_is_a_point_and_a_partial_alone_leads_on(
    server: ServerFactory, cluster: ClusterMaker, scratch: Path
) -> None:
    """Without WAL, only the backup's very end is reached, and the archive's end is refused in words that say why."""
    source = server(wal_segment_megabytes=1)
    main = cluster(source)
    source.query(EVENTS)
    source.query(HAPPEN)
    backup = main.create_backup()
    ending = WalSegment.ending_at(backup.stop_lsn, 1, 1 << 20)

    def assert_alone() -> None:
        [(_, row)] = main.recoverable().iterrows()
        assert row["from_at"] == row["to_at"] == backup.stopped_at
        assert (row["wal_bytes"], row["stored_bytes"]) == (0, 0)
        assert row["ends_because"] == "no WAL after the backup is archived"
        with pytest.raises(RecoveryError, match="does not lead on from backup") as caught:
            main.restore(scratch / "refused", latest=True)
        assert ending.name in caught.value.message
        assert "'opskit wal stream main'" in caught.value.hint
        assert not (scratch / "refused").exists()

    assert_alone()
    with main.restore(scratch / "end", at=backup.stopped_at).started() as copy:
        assert copy.server.query(COUNT).rows == [(1,)]

    content = (source.data_directory / "pg_wal" / ending.name).read_bytes()
    archive = main.repository.known_wal("main")
    archive.put_partial(ending, content[: backup.stop_lsn - ending.start - 8])
    assert_alone()  # it ends before the backup does
    archive.put_partial(ending, content[: backup.stop_lsn - ending.start])
    [(_, row)] = main.recoverable().iterrows()
    assert row["ends_because"] == HERE
    with main.restore(scratch / "partial", latest=True).started() as copy:
        assert copy.server.query(COUNT).rows == [(1,)]
    assert [path.name for path in (scratch / "partial/wal").iterdir()] == [ending.name]


def assert_reached(main: Cluster, place: Path, row: "pd.Series[Any]") -> None:
    """Both ends of an interval have a plan; what lies behind it is refused, or has another backup."""
    name, timeline = str(row["backup"]), int(str(row["timeline"]))
    to_at = pd.Timestamp(str(row["to_at"])).to_pydatetime()
    for at in (pd.Timestamp(str(row["from_at"])).to_pydatetime(), to_at):
        plan = main.plan_restore(place, at=at, timeline=timeline, backup=name)
        assert plan.backup.name == name
    main.plan_restore(place, lsn=str(row["to_lsn"]), timeline=timeline, backup=name)
    with pytest.raises(RecoveryError) as caught:
        later = to_at + timedelta(microseconds=1)
        main.plan_restore(place, at=later, timeline=timeline, backup=name)
    gap = "missing" in str(row["ends_because"])
    assert caught.value.kind is (ErrorKind.WAL_GAP if gap else ErrorKind.NO_PATH)
