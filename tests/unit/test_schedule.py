"""Schedules as the configuration says them, and as other schedulers are told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from opskit.config import Settings, settings_from
from opskit.errors import InputError
from opskit.planner import Platform, export_units


def settings(schedule: str, **more: object) -> Settings:
    """Settings of one cluster with that schedule."""
    cluster = {"conninfo": "service=main", "schedule": schedule, **more}
    data = {
        "repository": {"url": "file:///srv/opskit"},
        "scheduler": {"jitter_minutes": 10},
        "clusters": {"main": cluster},
    }
    return settings_from(data, Path("/etc/ops kit/50%/opskit.toml"))


@pytest.mark.parametrize(
    "schedule",
    ["0 25 * * *", "0 2 * *", "* * * * * *", "nightly", "@daily", "0 0 30 2 *", "*/0 * * * *"],
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    """With its value, the key, and how to write one."""
    with pytest.raises(InputError, match=r"clusters\.main\.schedule") as raised:
        settings(schedule)
    assert repr(schedule) in raised.value.message
    assert "0 2 * * *" in raised.value.hint


@pytest.mark.parametrize(
    ("schedule", "calendar"),
    [
        ("0 2 * * *", "*-*-* 02:00:00 UTC"),
        ("*/15 * * * *", "*-*-* *:00,15,30,45:00 UTC"),
        ("30 1 * * mon-fri", "Mon,Tue,Wed,Thu,Fri *-*-* 01:30:00 UTC"),
        ("0 3 1,15 jan *", "*-01-01,15 03:00:00 UTC"),
        ("0 2 * * 7", "Sun *-*-* 02:00:00 UTC"),
    ],
)
def test_systemd_is_told_the_same_times(schedule: str, calendar: str) -> None:
    """In its own words, caught up after sleep; systemd itself reads it where it is installed."""
    unit = export_units(settings(schedule), Platform.SYSTEMD, "main")
    assert f"OnCalendar={calendar}\n" in unit
    assert "Persistent=true" in unit
    assert "RandomizedDelaySec=600" in unit
    assert "'/etc/ops kit/50%%/opskit.toml' runbook run scheduled_backup main" in unit
    assert "expire_backups" not in unit
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "calendar", calendar], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("schedule", ["0 2 1 * mon", "0 2 L * *", "0 2 * * 1#2"])
def test_what_systemd_cannot_say_is_refused(schedule: str) -> None:
    """Rather than told wrongly; cron and Kubernetes take the fields as they are."""
    with pytest.raises(InputError, match="systemd has no word"):
        export_units(settings(schedule), Platform.SYSTEMD, "main")


def test_cron_and_kubernetes_expire_behind_the_backup() -> None:
    """Where there is a retention, and only when the backup passed; names are quoted."""
    kept = settings("0 2 * * *", retention={"daily": 7})
    line = export_units(kept, Platform.CRON, "main").splitlines()[-1]
    assert line.startswith("0 2 * * * ")
    assert "'/etc/ops kit/50\\%/opskit.toml'" in line
    assert " && " in line
    assert line.endswith("runbook run expire_backups main -p dry_run false")
    job = export_units(kept, Platform.KUBERNETES, "main")
    assert 'schedule: "0 2 * * *"' in job
    assert "timeZone: Etc/UTC" in job
    assert "concurrencyPolicy: Forbid" in job
    assert "expire_backups" in job


def test_without_a_schedule_nothing_is_exported() -> None:
    """The hint says what to write."""
    data = {"repository": {"url": "file:///x"}, "clusters": {"main": {"conninfo": "service=main"}}}
    with pytest.raises(InputError, match="has no schedule") as raised:
        export_units(settings_from(data, Path("/opskit.toml")), Platform.CRON, "main")
    assert "0 2 * * *" in raised.value.hint
