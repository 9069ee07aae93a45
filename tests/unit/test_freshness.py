"""A cluster's freshness, gathered from a repository, a catalog and reports, with a server that is away."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.cli import main as opskit
from opskit.cluster import Cluster
from opskit.config import load_settings
from opskit.errors import ErrorKind, StoreError
from opskit.model.freshness import FreshnessFinding, Severity
from opskit.model.operation import OperationKind, OperationStatus
from opskit.store import LocalStore
from tests.support.repositories import made_up_backup, made_up_wal

NOW = datetime.now(UTC)


@pytest.fixture
def main(tmp_path: Path) -> Cluster:
    """A cluster with a daily schedule whose server nobody finds."""
    return configured(tmp_path, 'schedule = "0 2 * * *"')


def configured(directory: Path, *lines: str) -> Cluster:
    """A cluster ``main`` with these lines more."""
    file = directory / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "{(directory / "repository").as_uri()}"\n[clusters.main]\n'
        f'conninfo = "host={directory} user=nobody"\n' + "\n".join(lines) + "\n"
    )
    return Cluster("main", load_settings(file))


def store(main: Cluster) -> LocalStore:
    """The store of its repository."""
    assert main.settings.file is not None
    return LocalStore(main.settings.file.parent / "repository")


def found(main: Cluster) -> dict[str, FreshnessFinding]:
    """Its findings by their names."""
    findings = main.freshness()
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def end(main: Cluster, kind: OperationKind, status: OperationStatus, message: str = "") -> None:
    """Record an operation that ended so."""
    row = main.catalog.start(kind=kind, cluster="main", parameters={}, actor="anna")
    error = StoreError(message, ErrorKind.STORE_FULL).as_dict() if message else None
    main.catalog.finish(row.id, status, error=error)


def test_an_old_backup_is_told_with_its_age_and_what_is_allowed(main: Cluster) -> None:
    """In words, with what to do; a younger one ends it."""
    made_up_backup(store(main), NOW - timedelta(days=3, hours=4), 5)
    newest = found(main)["newest backup"]
    assert newest.severity is Severity.CRITICAL
    assert newest.message == "the newest backup is 3 d 4 h old, more than the 1 d 2 h allowed"
    assert "opskit schedule show" in newest.hint
    made_up_backup(store(main), NOW - timedelta(hours=1), 6)
    assert found(main)["newest backup"].passed


def test_the_age_can_be_configured(tmp_path: Path) -> None:
    """`stale_after` goes before the schedule; without both no age is too old."""
    assert "neither a schedule nor stale_after" in _of_three_days(configured(tmp_path)).message
    assert _of_three_days(configured(tmp_path, 'stale_after = "4d"')).passed
    told = _of_three_days(configured(tmp_path, 'schedule = "0 2 1 * *"', 'stale_after = "2h"'))
    assert "more than the 2 h allowed" in told.message


def _of_three_days(main: Cluster) -> FreshnessFinding:
    if not main.repository.clusters():
        made_up_backup(store(main), NOW - timedelta(days=3), 5)
    return found(main)["newest backup"]


def test_no_backup_at_all_is_silence(main: Cluster) -> None:
    """Unless the first one is being taken just now."""
    assert found(main)["newest backup"].message == "there is no backup"
    main.catalog.start(kind=OperationKind.BACKUP, cluster="main", parameters={}, actor="anna")
    assert found(main)["newest backup"].passed
    main.catalog.close()


def test_failures_count_until_something_succeeds(main: Cluster) -> None:
    """A cancelled one is none, a refused one neither; the message is the operation's own."""
    made_up_backup(store(main), NOW - timedelta(hours=1), 5)
    end(main, OperationKind.EXPIRE, OperationStatus.COMPLETE)
    assert found(main)["last operations"].passed
    end(main, OperationKind.EXPIRE, OperationStatus.FAILED, "no space left in 'x'")
    end(main, OperationKind.EXPIRE, OperationStatus.CANCELLED)
    end(main, OperationKind.BACKUP, OperationStatus.FAILED, "gone")
    failed = found(main)
    assert "no space left in 'x'" in failed["last expire"].message
    assert failed["last backup"].severity is Severity.WARNING
    end(main, OperationKind.EXPIRE, OperationStatus.COMPLETE)
    end(main, OperationKind.BACKUP, OperationStatus.COMPLETE)
    assert found(main)["last operations"].passed
    main.catalog.close()


def test_a_failed_run_that_left_nothing_in_the_catalog_is_told(main: Cluster) -> None:
    """A scheduled backup whose preconditions failed has a report only."""
    trace = main.settings.reports_directory / "main/2026/11/.20261122T020000Z-scheduled_backup.run"
    trace.mkdir(parents=True)
    order = {"runbook": "scheduled_backup", "cluster": "main", "actor": "anna"}
    order |= {"host": os.uname().nodename, "started_at": NOW.isoformat()}
    (trace / "order.json").write_text(json.dumps(order))
    ended = {"interruption": {"outcome": "failed", "reason": "the server cannot be reached"}}
    (trace / "lock").write_text(json.dumps(ended))
    assert "the server cannot be reached" in found(main)["last backup"].message
    end(main, OperationKind.BACKUP, OperationStatus.COMPLETE)
    assert found(main)["last operations"].passed
    main.catalog.close()


def test_gaps_are_found_without_the_server(main: Cluster) -> None:
    """The archive is judged by itself where the server is away: one finding, however many gaps."""
    made_up_backup(store(main), NOW - timedelta(hours=1), 5)
    made_up_wal(store(main), [5, 6, 7])
    well = found(main)
    assert "not compared with the server" in well["WAL archive"].message
    made_up_wal(store(main), [10, 12])
    gap = found(main)["WAL gap"]
    assert gap.severity is Severity.CRITICAL
    assert "2 segments missing" in gap.message
    assert gap.message.endswith("; and 1 more")


def test_what_cannot_be_read_is_a_finding_and_the_rest_is_judged(main: Cluster) -> None:
    """A catalog that is no database, then a repository that is no directory."""
    made_up_backup(store(main), NOW - timedelta(hours=1), 5)
    assert main.settings.file is not None
    directory = main.settings.file.parent
    (directory / "opskit.db").write_text("no database " * 100)
    failed = found(main)
    assert failed["catalog"].severity is Severity.CRITICAL
    assert failed["newest backup"].passed
    (directory / "repository").rename(directory / "away")
    (directory / "repository").write_text("a file")
    failed = found(main)
    assert not failed["repository"].passed
    assert "newest backup" not in failed


def test_check_shows_it_and_ends_with_one(
    main: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the preflight, for people and for programs."""
    made_up_backup(store(main), NOW - timedelta(days=3, hours=4), 5)
    assert opskit(["--config", str(main.settings.file), "check", "main"]) == 1
    assert "FAIL  newest backup: the newest backup is 3 d 4 h old" in capsys.readouterr().out
    assert opskit(["--config", str(main.settings.file), "check", "main", "--json"]) == 1
    severities = {f["name"]: f["severity"] for f in json.loads(capsys.readouterr().out)}
    assert severities["newest backup"] == "critical"
    assert severities["repository"] == "ok"
