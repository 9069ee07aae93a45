"""What the cells of ``repository_health.ipynb`` call. They read; nothing is changed, and no server is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from opskit.cluster import Cluster
from opskit.errors import OpskitError
from opskit.model.operation import Operation, OperationKind, OperationStatus
from opskit.operations.check import Finding
from opskit.operations.inventory import Inventory, read_backups, read_wal, take_inventory
from opskit.operations.recoverable import recoverable_intervals
from opskit.operations.wal_status import WalStatus
from opskit.reports.charts import recoverability_chart
from opskit.reports.drawing import Chart
from opskit.reports.format import format_bytes, format_duration, format_time
from opskit.reports.trends import backups_chart, growth_chart
from opskit.reports.view import View, facts, table, time_and_local
from opskit.runbooks.contract import Run

TOLD = 5
_ENDED_BADLY = (OperationStatus.FAILED, OperationStatus.DIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What was found at one moment. Where the WAL archive cannot be read, `wal` is the reason."""

    at: datetime
    inventory: Inventory
    wal: WalStatus | OpskitError
    segments: tuple[tuple[datetime, int], ...]


def source(main: Cluster) -> View:
    """Which cluster it is by what the repository keeps of it. The running server is not asked: it may be gone."""
    return facts(
        {
            "Cluster": main.name,
            "System identifier": _kept(main),
            "Repository": main.repository.url,
        }
    )


def _kept(main: Cluster) -> str:
    try:
        return main.repository.system_identifier(main.name)
    except OpskitError as error:
        return error.message


def preconditions(main: Cluster) -> list[Finding]:
    """Can the repository be read, and does it know the cluster."""
    try:
        known = main.repository.system_identifier(main.name)
    except OpskitError as error:
        return [Finding(name="repository", passed=False, message=error.message, hint=error.hint)]
    message = f"{main.repository.url} can be read, and holds cluster {known}"
    return [Finding(name="repository", passed=True, message=message)]


def plan(main: Cluster, newest_hours: int, failed_days: int, deep: bool) -> View:
    """What is going to be looked at."""
    return facts(
        {
            "Look at": f"every object of {main.name!r} in {main.repository.url}",
            "Compare": "every stored byte with its checksum"
            if deep
            else "records, indexes and manifests with their checksums, volumes with their sizes",
            "Newest backup": f"not older than {_count(newest_hours, 'hour')}",
            "Operations": f"of the last {_count(failed_days, 'day')}",
            "Change": "nothing",
        }
    )


def take_stock(main: Cluster) -> Stock:
    """Look at everything once, so that all that follows is about the same moment."""
    inventory = take_inventory(main.repository, main.name)
    segments: tuple[tuple[datetime, int], ...] = ()
    wal: WalStatus | OpskitError
    try:
        wal = main.wal_status()
        archive = main.repository.known_wal(main.name)
        segments = tuple(
            (stored.stored_at, stored.stored_bytes)
            for timeline in archive.timelines()
            for stored in archive.segments(timeline)
        )
    except OpskitError as error:
        wal = error
    return Stock(at=datetime.now(UTC), inventory=inventory, wal=wal, segments=segments)


def stored(stock: Stock) -> View:
    """What is stored, and since when."""
    found = stock.inventory
    rows = {"Backups": "none", "Stored": format_bytes(found.backup_bytes + found.wal_bytes)}
    if found.backups:
        newest, oldest = found.backups[0], found.backups[-1]
        rows = {
            "Backups": f"{len(found.backups)}, the oldest {time_and_local(oldest.started_at)}",
            "Newest backup": f"{newest.name}, {newest.kind}, {newest.trigger},"
            f" ended {_age(stock, newest.stopped_at)} ago",
            "Cluster": f"{format_bytes(newest.cluster_bytes)}, PostgreSQL {newest.postgresql_version}",
            "Stored": f"{format_bytes(found.backup_bytes)} of backups, {format_bytes(found.wal_bytes)} of WAL,"
            f" in {_count(found.objects, 'object')}",
        }
    if isinstance(stock.wal, WalStatus) and stock.wal.stored_at is not None:
        rows["WAL archive"] = (
            f"up to {stock.wal.end} on timeline {stock.wal.timeline},"
            f" stored {_age(stock, stock.wal.stored_at)} ago"
        )
    if found.begun:
        rows["Begun"] = f"{', '.join(found.begun)}: being written, or cut off within a day"
    return facts(rows)


def history(stock: Stock) -> Chart:
    """How large the backups are and how long they took, one after the other."""
    return backups_chart(stock.inventory.backups)


def growth(stock: Stock) -> Chart:
    """When what is stored came."""
    return growth_chart(stock.inventory.backups, stock.segments, "What is stored, by when it came")


def coverage(main: Cluster) -> Chart | View:
    """Which times can be restored, or why that cannot be told here."""
    try:
        intervals = recoverable_intervals(main.repository, main.name, main.settings.postgres)
    except OpskitError as error:  # no programs that read WAL, or a damaged segment
        return facts({"Cannot be told here": f"{error.message}. {error.hint}"})
    return recoverability_chart(intervals)


def wal_ranges(stock: Stock) -> View:
    """What the WAL archive holds, a row for each part without a gap."""
    if isinstance(stock.wal, OpskitError):
        return facts({"WAL archive": stock.wal.message})
    columns = ["Timeline", "From segment", "To segment", "Segments", "Stored"]
    rows = [
        (
            str(one.timeline),
            held.first.name,
            held.last.name,
            f"{held.last.number - held.first.number + 1:,}",
            format_bytes(held.stored_bytes),
        )
        for one in stock.wal.timelines
        for held in one.ranges
    ]
    return table(columns, rows, ["Segments", "Stored"]) if rows else facts({"WAL archive": "empty"})


def check_backups(run: Run, stock: Stock, newest_hours: int) -> None:
    """Check that there is a backup that is new enough, and that each is whole as its record says."""
    found = stock.inventory
    what = f"the newest backup is not older than {_count(newest_hours, 'hour')}"
    if found.backups:
        newest = found.backups[0]
        young = stock.at - newest.stopped_at <= timedelta(hours=newest_hours)
        run.check(what, young, f"{newest.name} ended {_age(stock, newest.stopped_at)} ago")
    else:
        run.check(what, False, "there is no backup")
    volumes = sum(backup.volumes for backup in found.backups)
    run.check(
        "of every backup all is there, and as long as its record says",
        not found.flaws,
        _listed([str(flaw) for flaw in found.flaws])
        or f"{_count(len(found.backups), 'backup')}, {_count(volumes, 'volume')}",
    )
    strays = [stat.name for stat in found.unknown]
    strays += [f"the unfinished backup {name}" for name in found.abandoned]
    run.check("nothing is stored that belongs to no backup and no WAL", not strays, _listed(strays))


def read_back(run: Run, main: Cluster, stock: Stock, wanted: bool) -> None:
    """Check every stored byte against its checksum; say so when that was not `wanted`."""
    what = "every stored byte reads back with the checksum it was stored with"
    if not wanted:
        run.not_run(what, "the parameter deep is false")
        return
    flaws = [str(flaw) for flaw in read_backups(main.repository, stock.inventory.backups)]
    try:
        flaws += [str(flaw) for flaw in read_wal(main.repository, main.name)]
    except OpskitError as error:
        flaws.append(error.message)
    read = stock.inventory.backup_bytes + stock.inventory.wal_bytes
    run.check(what, not flaws, _listed(flaws) or format_bytes(read))


def check_wal(run: Run, stock: Stock) -> None:
    """Check that the WAL archive leads on from the backups without a gap, and where the server answers, keeps up."""
    gap, follows, keeps_up = (
        "the WAL archive has no gap that a backup needs",
        "the WAL archive goes on from the newest backup",
        "the WAL archive keeps up with the server",
    )
    if isinstance(stock.wal, OpskitError):
        run.check("the WAL archive can be read", False, stock.wal.message)
        return
    findings = {finding.name: finding for finding in stock.wal.findings}
    if not stock.wal.timelines:
        for what in (gap, follows, keeps_up):
            run.not_run(what, "no WAL is archived: a backup restores to its end, and not beyond")
        return
    gaps = [f.message for f in stock.wal.findings if f.name == "gap" and not f.passed]
    run.check(gap, not gaps, _listed(gaps) or findings["gaps"].message)
    if "newest backup" in findings:
        run.check(follows, findings["newest backup"].passed, findings["newest backup"].message)
    if stock.wal.server is None:
        run.not_run(keeps_up, findings["server"].message)
        return
    asked = [findings[name] for name in ("slot", "behind") if name in findings]
    run.check(keeps_up, all(f.passed for f in asked), "; ".join(f.message for f in asked))


def check_identity(run: Run, main: Cluster) -> None:
    """Check that the server that answers, if one does, is the one whose backups these are."""
    what = "the server is the one whose backups these are"
    try:
        asked = main.facts().system_identifier
    except OpskitError as error:
        run.not_run(what, f"the server does not answer: {error.message}")
        return
    kept = main.repository.system_identifier(main.name)
    run.check(what, asked == kept, f"system identifier {asked}, the repository's is {kept}")


def check_operations(run: Run, main: Cluster, days: int) -> View:
    """Check that whatever failed lately has succeeded since; what failed is shown."""
    what = f"what failed in the last {_count(days, 'day')} has succeeded since"
    try:
        operations = main.catalog.operations(cluster=main.name)
    except OpskitError as error:
        run.not_run(what, f"the catalog cannot be read: {error.message}")
        return facts({"Operations": "unknown"})
    begin = datetime.now(UTC) - timedelta(days=days)
    late = [operation for operation in operations if operation.started_at >= begin]
    failed = [operation for operation in late if operation.status in _ENDED_BADLY]
    open_ = [operation for operation in failed if not _mended(operation, late)]
    told = [f"{o.kind} of {format_time(o.started_at)}: {_error(o)}" for o in open_]
    run.check(what, not open_, _listed(told) or f"{len(late)} operations, {len(failed)} failed")
    if not failed:
        return facts({"Failed": "nothing"})
    rows = [
        (format_time(o.started_at), str(o.kind), str(o.status), o.actor, _error(o))
        for o in failed[: TOLD * 2]
    ]
    return table(["Started", "Operation", "Status", "By", "Error"], rows)


def _mended(failed: Operation, operations: Sequence[Operation]) -> bool:
    """Whether an operation of the kind has succeeded since; a stream that runs on has."""
    fine = {OperationStatus.COMPLETE}
    if failed.kind is OperationKind.WAL_STREAM:
        fine.add(OperationStatus.RUNNING)
    return any(
        o.kind is failed.kind and o.status in fine and o.started_at > failed.started_at
        for o in operations
    )


def _error(operation: Operation) -> str:
    if operation.status is OperationStatus.DIED:
        return "its process died"
    return (operation.error or {}).get("message", "no reason is known")


def _age(stock: Stock, time: datetime) -> str:
    return format_duration(stock.at - time)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s'[: number != 1]}"


def _listed(texts: Sequence[str]) -> str:
    """The first of them in one line, and how many more there are."""
    more = f"; and {len(texts) - TOLD:,} more" if len(texts) > TOLD else ""
    return "; ".join(texts[:TOLD]) + more
