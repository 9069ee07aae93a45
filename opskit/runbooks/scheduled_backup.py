"""What the cells of ``scheduled_backup.ipynb`` call: a cell holds no logic of its own."""

import time
from datetime import datetime, timedelta

from opskit.cluster import Cluster
from opskit.errors import ConflictError, ErrorKind, IntegrityError
from opskit.model.backup import BaseBackup, Trigger
from opskit.model.target import parse_time
from opskit.postgres.connection import connect
from opskit.postgres.facts import backup_is_running
from opskit.reports.charts import sizes_chart
from opskit.reports.drawing import Chart
from opskit.reports.format import format_bytes, format_duration
from opskit.reports.view import View, facts, time_and_local
from opskit.runbooks._evidence import facts_of
from opskit.runbooks.contract import Run

SHOWN = 10
_ITSELF = "this run took the backup"
_TAKEN = (ErrorKind.BACKED_UP_ALREADY, ErrorKind.BACKUP_RUNNING)
_POLL_SECONDS = 1.0


def source(main: Cluster) -> View:
    """Which cluster it is, by what cannot be mistaken: its system identifier."""
    cluster = main.facts()
    sizes = [database.database_bytes or 0 for database in cluster.databases]
    return facts(
        {
            "Cluster": main.name,
            "System identifier": cluster.system_identifier,
            "PostgreSQL": cluster.postgresql_version,
            "Databases": f"{len(sizes)}, {format_bytes(sum(sizes))}",
            "Tablespaces": ", ".join(cluster.tablespace_names.values()) or "the default ones",
            "Data checksums": "on" if cluster.data_checksums else "off",
            "Repository": main.repository.url,
        }
    )


def plan(main: Cluster, note: str) -> View:
    """What is going to be done, and what to expect from the last time."""
    backups = main.repository.backups(main.name)
    rows = {
        "To do": f"a backup of {main.name!r} into {main.repository.url}",
        "Trigger": str(Trigger.SCHEDULED),
        "Note": note or "none",
        "Last backup": "none yet",
    }
    if backups:
        last = backups[0]
        rows["Last backup"] = f"{last.name}, {time_and_local(last.started_at)}"
        rows["It took"] = format_duration(last.stopped_at - last.started_at)
        rows["It stored"] = (
            f"{format_bytes(last.stored_bytes)} for {format_bytes(last.cluster_bytes)}"
        )
    return facts(rows)


def back_up(run: Run, main: Cluster, note: str, scheduled_for: str) -> BaseBackup:
    """Take the backup, in a process of its own, unless somebody else takes it for that time of the schedule.

    Then that one is waited for, and this run says that it took none. A backup on demand that is running is waited for,
    too.
    """
    while True:
        handle = main.start_backup(
            trigger=Trigger.SCHEDULED, note=note, scheduled_for=scheduled_for or None
        )
        try:
            return main.backup(handle.wait().backup or "")
        except ConflictError as error:
            if error.kind not in _TAKEN or not scheduled_for:
                raise
        backup = _taken_by_another(main, parse_time(scheduled_for))
        if backup is not None:
            run.not_run(_ITSELF, f"skipped: another run took {backup.name} for {scheduled_for}")
            return backup


def _taken_by_another(main: Cluster, period: datetime) -> BaseBackup | None:
    """The backup for that time of the schedule, once no backup is running; `None` if there is none then."""
    while True:
        connection = connect(main.configuration.conninfo)
        try:
            running = backup_is_running(connection)  # asked first: it may end in between
        finally:
            connection.close()
        for backup in main.repository.backups(main.name):
            if backup.scheduled_for == period:
                return backup
        if running is None:
            return None
        time.sleep(_POLL_SECONDS)


def result(backup: BaseBackup) -> View:
    """The backup that was made."""
    duration = backup.stopped_at - backup.started_at
    speed = backup.cluster_bytes / max(duration / timedelta(seconds=1), 0.001)
    return facts_of(
        backup,
        {
            "Backup": backup.name,
            "Started": time_and_local(backup.started_at),
            "Took": f"{format_duration(duration)}, {format_bytes(speed)} a second",
            "Cluster": format_bytes(backup.cluster_bytes),
            "Stored": f"{format_bytes(backup.stored_bytes)} in {_volumes(backup)}",
            "WAL": f"{backup.start_lsn} to {backup.stop_lsn} on timeline {backup.timeline}",
        },
    )


def verify(run: Run, main: Cluster, backup: BaseBackup) -> None:
    """Check that the repository holds what the record of the backup says; reads records only."""
    listed = main.backups()
    row = listed[listed["name"] == backup.name]
    status = ", ".join(row["status"]) or "not listed"
    run.check("the backup is listed as complete", status == "complete", status)
    identifier = main.facts().system_identifier
    run.check(
        "it is of this cluster",
        backup.system_identifier == identifier,
        f"system identifier {backup.system_identifier}, the server's is {identifier}",
    )
    volumes = main.repository.volumes(backup)
    total = sum(volume.stored_bytes for volume in volumes)
    run.check(
        "its volumes add up to what its record says",
        (total, len(volumes)) == (backup.stored_bytes, backup.volumes),
        f"{total:,} bytes in {len(volumes)}, the record says {backup.stored_bytes:,} in {backup.volumes}",
    )
    files = len(main.repository.manifest(backup).split(b'{ "Path"')) - 1
    run.check("its manifest can be read", files > 0, f"{files:,} files")
    run.check(
        "it ends after it started",
        backup.stop_lsn > backup.start_lsn and backup.stopped_at >= backup.started_at,
        f"LSN {backup.start_lsn} to {backup.stop_lsn}",
    )


def read_back(run: Run, main: Cluster, backup: BaseBackup, wanted: bool) -> None:
    """Check every stored byte against the checksums of the index; say so when that was not `wanted`."""
    what = "every stored byte reads back with the checksum it was stored with"
    if not wanted:
        run.not_run(what, "the parameter read_back is false")
        return
    if any(check.what == _ITSELF for check in run.checks):
        run.not_run(what, "the run that took it reads it back")
        return
    read, error = 0, ""
    try:
        for piece in main.repository.archive(backup).read():
            read += len(piece)
    except IntegrityError as damage:
        error = damage.message
    run.check(what, not error, error or f"{format_bytes(read)} in {_volumes(backup)}")


def sizes(main: Cluster) -> Chart:
    """What the last backups take in the repository."""
    backups = main.repository.backups(main.name)[:SHOWN]
    return sizes_chart([(b.started_at, str(b.trigger), b.stored_bytes) for b in backups])


def _volumes(backup: BaseBackup) -> str:
    return f"{backup.volumes} volume{'s' if backup.volumes != 1 else ''}"
