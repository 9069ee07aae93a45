"""What an increment is based on, and why not: as pure decisions on records and on what a server says."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from opskit.model.backup import BackupKind, Tablespace, read_record, write_record
from opskit.model.increment import (
    IncrementalRules,
    Obstacle,
    Summarizing,
    WalSummary,
    broken,
    choose_parent,
    enough,
)
from opskit.model.lsn import Lsn
from opskit.model.timeline import first_timeline, read_history
from opskit.reports.tables import backups_table
from tests.support.records import EPOCH, record

DAY = timedelta(days=1)
FULL = record(EPOCH + DAY)
CHILD = record(
    EPOCH + 2 * DAY,
    kind=BackupKind.INCREMENTAL,
    parent=FULL.name,
    parent_start_lsn=FULL.start_lsn,
)
NOW = EPOCH + 3 * DAY


def server(**changed: Any) -> Summarizing:
    """A server that has every summary since the beginning."""
    values: dict[str, Any] = {
        "system_identifier": FULL.system_identifier,
        "major": 18,
        "is_on": True,
        "data_checksums": True,
        "history": first_timeline(),
        "summaries": summaries(0, FULL.start_lsn, CHILD.start_lsn, CHILD.stop_lsn),
    }
    return Summarizing(**{**values, **changed})


def summaries(*ends: int, timeline: int = 1) -> tuple[WalSummary, ...]:
    """One from each end to the next."""
    return tuple(
        WalSummary(timeline=timeline, start=Lsn(start), end=Lsn(end))
        for start, end in pairwise(ends)
    )


def test_the_newest_backup_is_the_parent() -> None:
    """Changes are taken since the newest backup, be it an increment itself."""
    assert choose_parent([FULL, CHILD], server()).parent == CHILD
    assert choose_parent([FULL], server()).parent == FULL


@pytest.mark.parametrize(
    ("changed", "obstacle", "said"),
    [
        ({"major": 16}, Obstacle.VERSION, "PostgreSQL 16 takes no incremental backups"),
        ({"major": 15}, Obstacle.VERSION, "PostgreSQL 15 takes no incremental backups"),
        ({"is_on": False}, Obstacle.NOT_SUMMARIZED, "summarize_wal is off"),
        ({"system_identifier": "8"}, Obstacle.NO_PARENT, "is of another cluster"),
        ({"major": 17}, Obstacle.NO_PARENT, "is of another cluster"),
        ({"data_checksums": False}, Obstacle.NO_PARENT, "data checksums were on at backup"),
        (
            {"history": read_history(2, f"1\t{Lsn(CHILD.start_lsn + 8)}\tx\n".encode())},
            Obstacle.NO_PARENT,
            "the server's timeline 2 forked away before backup",
        ),
        (
            {"summaries": summaries(CHILD.stop_lsn, CHILD.stop_lsn + 90)},
            Obstacle.NOT_SUMMARIZED,
            "no summaries of the WAL from",
        ),
    ],
)
def test_an_obstacle_is_named(changed: dict[str, Any], obstacle: Obstacle, said: str) -> None:
    """Where no increment can be based on the newest backup, the reason says why."""
    choice = choose_parent([replace(CHILD, **_full())], server(**changed))
    assert (choice.parent, choice.obstacle) == (None, obstacle)
    assert said in choice.reason


def _full() -> dict[str, Any]:
    return {"kind": BackupKind.FULL, "parent": None, "parent_start_lsn": None}


def test_an_older_backup_serves_where_the_newest_cannot() -> None:
    """A backup of a timeline that was left is passed over for one from before the fork."""
    forked = server(
        history=read_history(2, f"1\t{Lsn(CHILD.start_lsn - 8)}\tx\n".encode()),
        summaries=(
            *summaries(0, CHILD.start_lsn - 8),
            *summaries(CHILD.start_lsn - 8, CHILD.stop_lsn, timeline=2),
        ),
    )
    assert choose_parent([FULL, CHILD], forked).parent == FULL


def test_a_summarizer_that_lags_is_no_obstacle() -> None:
    """What is not summarized yet, in one piece behind the last summary, will be; a hole will not."""
    behind = server(summaries=summaries(0, FULL.start_lsn))
    assert choose_parent([FULL, CHILD], behind).parent == CHILD
    hole = (*summaries(0, CHILD.start_lsn), *summaries(CHILD.start_lsn + 8, CHILD.stop_lsn))
    assert choose_parent([CHILD, FULL], server(summaries=hole)).obstacle is Obstacle.NOT_SUMMARIZED
    switch = CHILD.stop_lsn + 8
    history = read_history(2, f"1\t{Lsn(switch)}\tx\n".encode())
    late = server(history=history, summaries=summaries(0, CHILD.stop_lsn))
    assert choose_parent([FULL, CHILD], late).parent == CHILD
    lost = server(
        history=history,
        summaries=(*summaries(0, CHILD.stop_lsn), *summaries(switch, switch + 9, timeline=2)),
    )
    assert choose_parent([FULL, CHILD], lost).obstacle is Obstacle.NOT_SUMMARIZED


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ({"parent": "20250101T000000Z"}, "which is missing"),
        ({"parent_start_lsn": Lsn(7)}, "is based on another"),
        ({"system_identifier": "8"}, "is based on another"),
        ({"data_checksums": False}, "data checksums were switched between"),
    ],
)
def test_a_broken_chain_is_no_parent(child: dict[str, Any], said: str) -> None:
    """A chain is whole down to its full backup, or it is not built on; the sound full one is."""
    wrong = replace(CHILD, **child)
    assert said in (broken([wrong, FULL] if "parent" not in child else [wrong]) or "")
    assert choose_parent([wrong, FULL], server()).parent == FULL
    assert broken([CHILD, FULL]) is None


@pytest.mark.parametrize(
    ("rules", "changed", "said"),
    [
        (IncrementalRules(increments=1), None, "1 increment since the last full backup"),
        (IncrementalRules(days=2 * DAY), None, "is 2 days old"),
        (IncrementalRules(percent=50), 501, "50 % of the cluster has changed"),
        (IncrementalRules(percent=50), 500, None),
        (IncrementalRules(increments=2, days=3 * DAY), None, None),
    ],
)
def test_a_full_backup_is_due(
    rules: IncrementalRules, changed: int | None, said: str | None
) -> None:
    """After a number of increments or days, or when more than a part of the cluster has changed."""
    reason = enough(CHILD, [FULL, CHILD], rules, NOW, changed)
    assert reason is None if said is None else said in (reason or "")


def test_records_of_increments_are_of_a_format_of_their_own() -> None:
    """A reader that knows only full backups refuses an increment instead of taking it for a whole."""
    latin = Tablespace(oid=1, name="ä", location="/sp\udce4ce", tablespace_bytes=0)  # no UTF-8
    spaced = replace(FULL, tablespaces=(latin,))
    for backup, number in ((FULL, 1), (CHILD, 2), (replace(CHILD, reason="ä"), 2), (spaced, 1)):
        content = write_record(backup)
        assert f'"format": {number},'.encode() in content
        assert read_record(content) == backup


def test_the_table_of_backups_tells_of_chains() -> None:
    """How many backups a restore takes, and what a full one would store; nothing where the chain is broken."""
    child = replace(CHILD, stored_bytes=10, cluster_bytes=2 * FULL.cluster_bytes)
    lost = replace(child, name="20260109T000000Z", parent="20250101T000000Z")
    table = backups_table([child, FULL, lost], []).set_index("name")
    assert list(table.loc[[FULL.name, child.name], "chain_length"]) == [1, 2]
    assert list(table.loc[[FULL.name, child.name], "full_bytes"]) == [100, 200]
    assert table.loc[lost.name, ["chain_length", "full_bytes"]].isna().all()
