"""What a fleet's planner takes for due: what the embedded scheduler would, for all clusters at once."""

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.config import Settings, settings_from
from opskit.errors import InputError
from opskit.model.operation import OperationStatus
from opskit.model.schedule import Attempt, ScheduleStatus, schedule_state
from opskit.planner import open_worker
from opskit.planner._fleet import queue_name
from opskit.planner.fleet._planning import Due, Standing, due, periods
from tests.support.command import PROJECT
from tests.support.records import record

NOW = datetime(2026, 11, 22, 14, 3, tzinfo=UTC)
PERIOD = datetime(2026, 11, 22, 2, tzinfo=UTC)
NIGHTLY = "0 2 * * *"
SHARED = "postgresql://opskit@db/state"


def settings(*names: str, catalog: str = SHARED, schedule: str | None = NIGHTLY) -> Settings:
    """Settings of clusters that have a schedule."""
    cluster = {"conninfo": "service=main"} | ({"schedule": schedule} if schedule else {})
    data = {
        "repository": {"url": "file:///srv/opskit"},
        "catalog": {"url": catalog},
        "clusters": dict.fromkeys(names, cluster),
    }
    return settings_from(data, Path("/etc/opskit/opskit.toml"))


def attempt(status: OperationStatus, at: datetime, period: datetime = PERIOD) -> Attempt:
    """A try that ended, or was last alive, at that time."""
    return Attempt(period=period, status=status, backup="20261122T020000Z", at=at)


def planned(
    tries: list[Attempt], standing: Standing | None = None, jitter: timedelta = timedelta(0)
) -> list[Due]:
    """What is due of one cluster."""
    standings = {} if standing is None else {"main": standing}
    of_clusters = periods(settings("main"), NOW)
    return list(due(of_clusters, {"main": tries}, standings, NOW, jitter=jitter))


DUE = [Due("main", PERIOD)]


@pytest.mark.parametrize(
    ("tries", "standing", "expected"),
    [
        ([], None, DUE),
        ([attempt(OperationStatus.COMPLETE, PERIOD)], None, []),
        ([attempt(OperationStatus.COMPLETE, NOW, PERIOD - timedelta(days=1))], None, DUE),
        ([attempt(OperationStatus.RUNNING, NOW)], None, []),
        ([attempt(OperationStatus.FAILED, NOW - timedelta(minutes=4))], None, []),
        ([attempt(OperationStatus.FAILED, NOW - timedelta(minutes=6))], None, DUE),
        ([attempt(OperationStatus.DIED, NOW - timedelta(minutes=6))], None, DUE),
        ([], Standing(is_open=True), []),
        ([], Standing(served=PERIOD), []),
        ([], Standing(served=PERIOD - timedelta(days=1)), DUE),
    ],
)
def test_what_is_due(tries: list[Attempt], standing: Standing | None, expected: list[Due]) -> None:
    """Neither what is there, nor what runs or waits already, nor what failed a moment ago."""
    assert planned(tries, standing) == expected


def test_it_agrees_with_the_embedded_scheduler(seed: random.Random) -> None:
    """Whatever was tried, one cluster is due for both or for neither."""
    jitter = timedelta(hours=12)
    for _ in range(500):
        failed = [
            PERIOD + timedelta(minutes=seed.uniform(-300, 900)) for _ in range(seed.randrange(5))
        ]
        taken = [PERIOD - timedelta(days=days) for days in range(4) if seed.random() < 0.4]
        state = schedule_state(
            "main",
            PERIOD,
            PERIOD + timedelta(days=1),
            [record(at, scheduled_for=at) for at in taken],
            NOW,
            failed_at=failed,
            jitter=jitter,
        )
        tries = [attempt(OperationStatus.FAILED, at) for at in failed]
        tries += [attempt(OperationStatus.COMPLETE, at, at) for at in taken]
        assert bool(planned(tries, jitter=jitter)) == (state.status is ScheduleStatus.DUE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (settings("main", catalog="sqlite:////srv/opskit.db"), "SQLite"),
        (settings("main", schedule=None), "schedule"),
        (settings(), "schedule"),
    ],
)
def test_settings_that_are_no_fleets_are_refused(wrong: Settings, message: str) -> None:
    """Before anything is asked, with what to write."""
    with pytest.raises(InputError, match=message) as raised:
        open_worker(wrong, tell=print, stopped=lambda: True)
    assert raised.value.hint


def test_a_worker_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    """The extra, as pip takes it."""
    file = tmp_path / "opskit.toml"
    file.write_text(
        f'[repository]\nurl = "file:///srv/opskit"\n[catalog]\nurl = "{SHARED}"\n'
        '[clusters.main]\nconninfo = "service=main"\nschedule = "0 2 * * *"\n',
        encoding="utf-8",
    )
    without = "import sys; sys.modules['procrastinate'] = None; from opskit.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", f"{without}sys.exit(main(['worker']))"],
        cwd=PROJECT,
        env={"OPSKIT_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "pip install 'opskit[fleet]'" in done.stderr


def test_queues_of_two_repositories_are_two() -> None:
    """A channel's name in PostgreSQL has 63 bytes, of which Procrastinate takes 23."""
    names = {queue_name("file:///srv/opskit"), queue_name("file:///srv/other")}
    assert len(names) == 2
    assert all(len(name) <= 40 for name in names)
