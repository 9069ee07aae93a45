"""What the command shows: progress, tables as wide as the terminal, JSON."""

import json
from datetime import UTC, datetime

import pandas as pd
import pytest

from opskit.cli._output import BACKUP_KEYS, print_backups, print_json
from opskit.cli._progress import amounts


def test_what_is_not_known_of_a_progress_is_left_out() -> None:
    """The text beside the bar has what is known: bytes, total, rate, time left."""
    assert amounts(0, None, None, None) == ""
    assert amounts(1.2e9, 3e9, 310e6, 6) == "1.2 GB of 3.0 GB, 310 MB/s, 6.0 s left"
    assert amounts(1.2e9, None, 310e6, None) == "1.2 GB, 310 MB/s"


def test_a_table_is_not_cut_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets every character of a long note, without a terminal's colours and without what terminals obey."""
    note = "n\x1b[31m" * 100 + "[bold]end"
    row = dict.fromkeys(BACKUP_KEYS) | {"status": "failed", "note": note, "reason": "disk full"}
    print_backups([row], with_cluster=False)
    shown = capsys.readouterr().out
    assert "[bold]end — disk full" in shown
    assert "\x1b" not in shown


def test_a_narrow_terminal_keeps_what_matters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 80 columns names stay whole, and columns that say less are left out instead of broken."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("COLUMNS", "80")
    row = dict.fromkeys(BACKUP_KEYS) | {
        "name": "20261122T140305Z",
        "cluster": "main",
        "kind": "full",
        "trigger": "on demand",
        "status": "complete",
        "started_at": datetime(2026, 11, 22, 14, 3, 5, tzinfo=UTC),
        "stopped_at": datetime(2026, 11, 22, 14, 5, 19, tzinfo=UTC),
        "cluster_bytes": 1_500_000_000,
        "stored_bytes": 310_000_000,
        "note": "a note that is too long for a line of a terminal that is as narrow as this one",
    }
    print_backups([row], with_cluster=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:6] == ["main", "20261122T140305Z", "on", "demand", "complete", "1.5"]
    assert "Took" not in lines[0]
    monkeypatch.setenv("COLUMNS", "140")
    print_backups([row], with_cluster=True)
    assert "2026-11-22 14:03:05  2 min 14 s  1.5 GB  310 MB" in capsys.readouterr().out


def test_json_holds_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Times are ISO 8601 in UTC, numbers are numbers, and what is missing is null."""
    frame = pd.DataFrame(
        {"n": pd.Series([1, None], dtype="Int64"), "t": pd.to_datetime(["2026-11-22 14:03Z"] * 2)}
    )
    print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
    assert json.loads(capsys.readouterr().out) == [
        {"n": 1, "t": "2026-11-22T14:03:00.000Z"},
        {"n": None, "t": "2026-11-22T14:03:00.000Z"},
    ]
