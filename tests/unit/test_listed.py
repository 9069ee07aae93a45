"""Backups as plain values: what is said of chains, and of attempts whose kind is not known yet."""

from datetime import UTC, datetime, timedelta

import pytest

from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.reports.listed import COLUMNS, backup_rows, chain_facts, chain_words
from opskit.reports.tables import backups_table
from tests.support.records import record

NOW = datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def attempt(status: OperationStatus, **parameters: str) -> Operation:
    """A backup that was begun now."""
    return Operation(
        id="1f",
        kind=OperationKind.BACKUP,
        cluster="main",
        status=status,
        host="here",
        pid=1,
        actor="me",
        started_at=NOW,
        heartbeat_at=NOW,
        progress=Progress(phase="reading"),
        backup="20261122T140305Z",
        parameters=parameters,
    )


@pytest.mark.parametrize(
    ("status", "parameters", "parents", "kind"),
    [
        ("running", {}, {}, "auto"),
        ("running", {}, {"20261122T140305Z": "20261121T140305Z"}, "incremental"),
        ("running", {}, {"20261122T140305Z": None}, "full"),
        ("running", {"mode": "incremental"}, {}, "incremental"),
        ("failed", {}, {}, "auto"),
        ("failed", {"mode": "full"}, {}, "full"),
    ],
)
def test_an_attempt_is_of_the_kind_that_is_known(
    status: str, parameters: dict[str, str], parents: dict[str, str | None], kind: str
) -> None:
    """What was left to opskit is called so until it has chosen; then it is what it became."""
    [row] = backup_rows([], [attempt(OperationStatus(status), **parameters)], parents)
    assert (row["kind"], row["parent"]) == (kind, parents.get("20261122T140305Z"))
    assert (row["reason"] is None) == (status == "running")  # else why it failed
    assert tuple(row) == COLUMNS


def test_a_chain_is_told() -> None:
    """Length, what a full one would store, what each is based on and what is based on it; not of a broken chain."""
    full = record(NOW - 2 * DAY, cluster_bytes=1000, stored_bytes=400)
    first = record(NOW - DAY, kind="incremental", parent=full.name, cluster_bytes=1500)
    second = record(NOW, kind="incremental", parent=first.name, cluster_bytes=2000)
    chain = [second, first, full]
    known = {backup.name: backup for backup in chain}
    assert [chain_facts(b, known) for b in chain] == [(3, 800), (2, 600), (1, 400)]
    assert chain_words(second, chain) == [
        f"Incremental: changes since {first.name}, restored from a chain of 3; a full one would take about 800 B."
    ]
    assert chain_words(full, chain) == [f"{first.name} is based on it, so it stays as long."]
    assert chain_facts(second, {second.name: second}) == (None, None)
    assert chain_words(second, [second]) == [f"Incremental: changes since {first.name}."]
    assert list(backups_table(chain, [])["chain_length"]) == [3, 2, 1]
