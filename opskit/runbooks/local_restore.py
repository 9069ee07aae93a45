"""What the cells of ``local_restore.ipynb`` call: a cell holds no logic of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opskit.cluster import Cluster
from opskit.errors import InputError, OpskitError
from opskit.local_copy import CopyServer, LocalCopy
from opskit.model.backup import BaseBackup
from opskit.operations.check import Finding
from opskit.operations.recover import RECOVERY_FILE
from opskit.postgres.account import server_account
from opskit.postgres.programs import CompletedRun, find_programs
from opskit.reports.format import format_bytes, format_duration
from opskit.reports.view import View, facts, table, time_and_local
from opskit.runbooks._evidence import facts_of
from opskit.runbooks.contract import Run

TABLES = 3
OUTPUT_LINES = 5
_COPY = ("snapshot", "wal", RECOVERY_FILE, "postgresql.log")

_DATABASES = """
select datname, pg_database_size(oid) from pg_database where datallowconn order by 2 desc, 1
"""
# Unlogged tables are empty after a restore, as after a crash: they are not asked.
_LARGEST = f"""
select format('%I.%I', nspname, relname), pg_total_relation_size(c.oid)
from pg_class c join pg_namespace n on n.oid = relnamespace
where relkind in ('r', 'm') and relpersistence = 'p' and nspname !~ '^pg_' and nspname <> 'information_schema'
order by 2 desc, 1 limit {TABLES}
"""


def source(backup: BaseBackup) -> View:
    """Which backup it is, and of which cluster. The running server is not asked: it may be gone."""
    took = format_duration(backup.stopped_at - backup.started_at)
    return facts_of(
        backup,
        {
            "Cluster": backup.cluster,
            "System identifier": backup.system_identifier,
            "PostgreSQL": backup.postgresql_version,
            "Backup": f"{backup.name}, {backup.trigger}",
            "Taken": f"{time_and_local(backup.started_at)}, in {took}",
            "Size": f"{format_bytes(backup.cluster_bytes)}, stored in {format_bytes(backup.stored_bytes)}",
            "Tablespaces": ", ".join(t.name for t in backup.tablespaces) or "the default ones",
            "Note": backup.note or "none",
        },
    )


def target(run: Run, directory: str, keep: bool) -> Path:
    """Where the copy goes: `directory`, or a fresh temporary one; the run clears the copy away unless it is kept.

    Raises
    ------
    InputError
        The copy shall be kept, but no directory is given.
    """
    if directory:
        place = Path(directory).expanduser().absolute()
        return place if keep else run.hold(_cleared(place))
    if keep:
        raise InputError(
            "the parameter 'keep' is true, but no directory is given to keep the copy in",
            hint="Give the parameter 'directory', too.",
        )
    return run.hold(_temporary()) / "copy"


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="opskit-restore-") as name:
        # The account that runs the copy's server must pass through.
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def _cleared(place: Path) -> Iterator[Path]:
    """Remove from `place` in the end what a restore puts there, and nothing else; only if nothing was there before.

    It is made here, so that nobody else can have made it in the meantime and lose what is theirs.
    """
    try:
        place.mkdir(parents=True)
        existed, ours = False, True
    except FileExistsError:
        existed, ours = True, place.is_dir() and not any(place.iterdir())
    except OSError:  # the restore will say why
        existed, ours = False, False
    yield place
    if not ours:
        return
    for name in _COPY:
        path = place / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not existed and place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def preconditions(
    main: Cluster, backup: BaseBackup, place: Path, wal_bytes: int = 0
) -> list[Finding]:
    """Would a restore of `backup`, with `wal_bytes` of log beside it, into `place` succeed, and its server start."""
    return [
        _programs(main, backup),
        _place(main, backup, place),
        _reach(main, place),
        _space(backup, place, wal_bytes),
    ]


def _programs(main: Cluster, backup: BaseBackup) -> Finding:
    try:
        programs = find_programs(backup.major, main.settings.postgres.programs)
    except OpskitError as error:
        return Finding(name="programs", passed=False, message=error.message, hint=error.hint)
    return Finding(
        name="programs",
        passed=True,
        message=f"PostgreSQL {programs.version} in {programs.directory}",
    )


def _place(main: Cluster, backup: BaseBackup, place: Path) -> Finding:
    try:
        main.plan_restore(place, backup=backup.name)
    except OpskitError as error:
        return Finding(name="directory", passed=False, message=error.message, hint=error.hint)
    return Finding(name="directory", passed=True, message=f"{place} is free")


def _reach(main: Cluster, place: Path) -> Finding:
    account, above = server_account(main.settings.postgres.run_as), _existing(place.parent)
    reached = account is None or account.can_reach(above)
    who = account.name if account else "this account"
    return Finding(
        name="account",
        passed=reached,
        message=f"{who} runs the server, and {'can' if reached else 'cannot'} reach {above}",
        hint="Restore into a directory whose parents everybody may pass, such as /var/tmp or /srv.",
    )


def _space(backup: BaseBackup, place: Path, wal_bytes: int) -> Finding:
    # The server of the copy needs a little room of its own: WAL, a log, temporary files.
    free = shutil.disk_usage(_existing(place)).free
    needed = round(backup.cluster_bytes * 1.05) + wal_bytes
    return Finding(
        name="space",
        passed=free >= needed,
        message=f"{format_bytes(free)} are free, {format_bytes(needed)} are needed",
        hint="Give the parameter 'directory' on a larger disk.",
    )


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def plan(main: Cluster, backup: BaseBackup, place: Path, keep: bool) -> View:
    """What is going to be done."""
    planned = main.plan_restore(place, backup=backup.name)
    count = len(planned.tablespaces)
    return facts(
        {
            "Restore": f"{planned.backup.name} of {planned.backup.cluster!r}",
            "Read": f"{format_bytes(backup.stored_bytes)} from {main.repository.url}",
            "Write": f"{format_bytes(backup.cluster_bytes)} to {planned.directory}",
            "Tablespaces": f"{count} of its own, inside the copy" if count else "the default ones",
            "Then": "start the copy, ask it questions, check its tables and indexes, stop it",
            "At the end": "the copy is kept" if keep else "the copy is removed",
        }
    )


def verify_files(run: Run, copy: LocalCopy) -> None:
    """Check the restored files by PostgreSQL's own ``pg_verifybackup``, before the first start changes them."""
    ended = copy.verify()
    run.check(
        "pg_verifybackup finds every file as the manifest says",
        ended.exit_code == 0,
        _told(ended),
    )


def verify_server(run: Run, server: CopyServer, backup: BaseBackup) -> None:
    """Check that the copy that answers is of the backup, whole, and that its recovery ended."""
    verify_identity(run, server, backup)
    count = server.query("select count(*) - 2 as count from pg_tablespace")["count"].iloc[0]
    run.check(
        "it has every tablespace",
        count == len(backup.tablespaces),
        f"{count} of {len(backup.tablespaces)}",
    )


def verify_identity(run: Run, server: CopyServer, backup: BaseBackup) -> None:
    """Check that the copy that answers is of the cluster that was backed up, and that its recovery ended."""
    row = server.query(
        "select split_part(current_setting('server_version'), ' ', 1) as version, system_identifier::text,"
        " pg_is_in_recovery() as recovering from pg_control_system()"
    ).iloc[0]
    run.check(
        "the copy answers, with the PostgreSQL major version of the backup",
        row.version.split(".")[0] == str(backup.major),
        f"it runs {row.version}, the backup is of {backup.postgresql_version}",
    )
    run.check(
        "it is the cluster that was backed up",
        row.system_identifier == backup.system_identifier,
        f"system identifier {row.system_identifier}",
    )
    recovering = bool(row.recovering)
    run.check(
        "its recovery ended", not recovering, "it goes on" if recovering else "it accepts writes"
    )


def databases(run: Run, server: CopyServer) -> View:
    """The databases and their sizes, and a check that each of them answers."""
    found = [
        (str(name), int(size)) for name, size in server.query(_DATABASES).itertuples(index=False)
    ]
    silent = [name for name, _ in found if not _answers(server, name)]
    run.check(
        "every database answers",
        not silent,
        f"no answer from {', '.join(map(repr, silent))}" if silent else f"{len(found)} databases",
    )
    rows = [(name, format_bytes(size)) for name, size in found]
    return table(["Database", "Size"], rows, numbers=["Size"])


def _answers(server: CopyServer, database: str) -> bool:
    try:
        return not server.query("select count(*) from pg_class", database).empty
    except OpskitError:
        return False


def largest_tables(server: CopyServer) -> View:
    """The largest tables of each database, with the number of their rows, counted."""
    rows = []
    for database in server.query(_DATABASES)["datname"]:
        for name, size in server.query(_LARGEST, database).itertuples(index=False):
            count = server.query(f"select count(*) as rows from {name}", database)["rows"].iloc[0]
            rows.append((str(database), str(name), f"{count:,}", format_bytes(size)))
    columns = ["Database", "Table", "Rows", "Size with indexes"]
    return table(columns, rows, numbers=columns[2:])


def check_relations(run: Run, server: CopyServer) -> None:
    """Check every table and B-tree index of every database with ``pg_amcheck``, where the build has its extension."""
    what = "pg_amcheck finds no damage in any table or index"
    available = server.query("select 1 from pg_available_extensions where name = 'amcheck'")
    if available.empty:
        run.not_run(what, "this build of PostgreSQL does not have the extension amcheck")
        return
    ended = server.run("pg_amcheck", "--all", "--install-missing", "--jobs=2")
    run.check(what, ended.exit_code == 0, _told(ended) or "all databases")


def cleared(run: Run, place: Path, keep: bool) -> None:
    """Check that nothing of the copy is left, unless it is kept."""
    left = [name for name in _COPY if (place / name).exists()]
    if keep:
        run.check("the copy is kept", "snapshot" in left, f"start it with 'opskit start {place}'")
    else:
        run.check("nothing of the copy is left", not left, ", ".join(left) or str(place))


def _told(ended: CompletedRun) -> str:
    """The first lines of what a program said; a damaged cluster makes it say thousands."""
    lines = [line for line in ended.output.splitlines() if line.strip()]
    rest = f" … and {len(lines) - OUTPUT_LINES:,} lines more" if len(lines) > OUTPUT_LINES else ""
    return "; ".join(lines[:OUTPUT_LINES]) + rest
