"""A time of the schedule has one backup, whoever takes it, and the scheduler takes it when it is due."""

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings, load_settings
from opskit.errors import ConflictError, ErrorKind
from opskit.model.backup import Trigger
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.runbooks import CheckResult
from opskit.runbooks import scheduled_backup as cells
from opskit.runbooks.contract import Run
from tests.servers import ServerFactory
from tests.support.backups import wait_until
from tests.support.command import PROJECT, command, run_command

pytestmark = pytest.mark.parametrize("programs", [18], indirect=True)
PERIOD = datetime(2026, 11, 22, 2, tzinfo=UTC)


def test_two_for_one_time_make_one(
    server: ServerFactory, settings: Callable[..., Settings]
) -> None:
    """Six at once for one time of the schedule: one is taken, the others are refused, and so is a later one; a run that
    comes second says that it was skipped."""
    main = Cluster("main", settings(server(wal_segment_megabytes=1)))
    kinds: list[ErrorKind] = []

    def take() -> None:
        try:
            main.create_backup(trigger=Trigger.SCHEDULED, scheduled_for=PERIOD)
        except ConflictError as error:
            kinds.append(error.kind)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kinds) == 5
    assert set(kinds) <= {ErrorKind.BACKUP_RUNNING, ErrorKind.BACKED_UP_ALREADY}
    [taken] = main.repository.backups("main")
    assert taken.scheduled_for == PERIOD
    with pytest.raises(ConflictError) as raised:
        main.create_backup(trigger=Trigger.SCHEDULED, scheduled_for="2026-11-22 03:00+01:00")
    assert raised.value.kind is ErrorKind.BACKED_UP_ALREADY
    run = Run(settings=main.settings, cluster="main", parameters={})
    assert cells.back_up(run, main, "", PERIOD.isoformat()) == taken
    cells.read_back(run, main, taken, wanted=True)
    assert [check.result for check in run.checks] == [CheckResult.NOT_RUN] * 2
    assert run.checks[0].detail.startswith(f"skipped: another run took {taken.name}")
    main.catalog.close()


@pytest.mark.long
@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.sweep)])
def test_the_scheduler_takes_what_is_due_and_expires(
    server: ServerFactory, settings: Callable[..., Settings], count: int
) -> None:
    """Two schedulers, a backup each minute, one kept: each minute has one, the old ones go, and SIGTERM ends both."""
    configured = settings(server(wal_segment_megabytes=1))
    assert configured.file is not None
    with configured.file.open("a", encoding="utf-8") as file:
        file.write('schedule = "* * * * *"\nretention = { daily = 1 }\n')
    main = Cluster("main", load_settings(configured.file))

    def filed(runbook: str) -> Iterator[Path]:
        return configured.reports_directory.glob(f"*/*/*/*-{runbook}.json")

    running = [
        subprocess.Popen(
            command(main.settings, "schedule", "run"), cwd=PROJECT, stdin=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    try:
        wait_until(
            lambda: len(complete(main)) >= count and any(filed("expire_backups")),
            "nothing was taken, or nothing expired",
            seconds=70 * count + 60,
        )
        shown = run_command(main.settings, "schedule", "show")
        assert "* * * * *" in shown.stdout, shown.stderr
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in running]
    assert codes == [143, 143]
    periods = [operation.parameters["scheduled_for"] for operation in complete(main)]
    assert len(periods) >= count
    assert len(set(periods)) == len(periods), "a time of the schedule was served twice"
    assert len(main.repository.backups("main")) <= 2
    left = subprocess.run(
        ["pgrep", "-f", str(configured.file)], capture_output=True, text=True, check=False
    )
    assert left.stdout == "", f"still running: {left.stdout}"
    main.catalog.close()


def complete(main: Cluster) -> list[Operation]:
    """The scheduled backups that were completed."""
    found = main.catalog.operations(cluster="main", kind=OperationKind.BACKUP)
    return [operation for operation in found if operation.status is OperationStatus.COMPLETE]
