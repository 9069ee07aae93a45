"""The commands that carry a backup home and run it there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import _output as output
from opskit.cli._app import BackupName, ClusterName, OperationId, app, open_cluster
from opskit.cli._progress import monitored, waiting
from opskit.cli._run import Session
from opskit.config import PostgresSettings
from opskit.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from opskit.model.target import TargetArguments
    from opskit.operations.copy import RestoredCopy

Directory = Annotated[
    Path, typer.Argument(metavar="DIRECTORY", help="The directory that a backup was restored into.")
]
Port = Annotated[
    int | None,
    typer.Option("--port", metavar="NUMBER", help="By default a free port.", show_default=False),
]


At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="A time with its zone, such as '2026-11-22 14:05Z'.",
        show_default=False,
    ),
]
AtLsn = Annotated[
    str | None,
    typer.Option(
        "--lsn", metavar="LSN", help="A position in the WAL, such as 0/3000148.", show_default=False
    ),
]
AtXid = Annotated[
    int | None,
    typer.Option("--xid", metavar="XID", help="The end of a transaction.", show_default=False),
]
AtPoint = Annotated[
    str | None,
    typer.Option(
        "--restore-point",
        metavar="NAME",
        help="A name given to pg_create_restore_point().",
        show_default=False,
    ),
]
Immediate = Annotated[bool, typer.Option("--immediate", help="The moment when the backup ended.")]
Latest = Annotated[bool, typer.Option("--latest", help="The end of the WAL archive.")]
Exclusive = Annotated[
    bool, typer.Option("--exclusive", help="Stop just before the target, not just after it.")
]
Timeline = Annotated[
    str,
    typer.Option("--timeline", metavar="latest|current|NUMBER", help="Which timeline to follow."),
]


@app.command()
def download(
    context: typer.Context,
    cluster: ClusterName,
    name: BackupName,
    path: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="A file or a directory; by default CLUSTER-BACKUP.tar.zst in the current one.",
            show_default=False,
        ),
    ] = Path(),
    archive: Annotated[
        str,
        typer.Option("--format", metavar="tar.zst|tar.gz|tar", help="The format of the archive."),
    ] = "tar.zst",
    no_wal: Annotated[bool, typer.Option("--no-wal", help="Leave the WAL archive out.")] = False,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="TIME",
            help="Include WAL up to this time; by default up to the next backup, or all there is.",
            show_default=False,
        ),
    ] = None,
    operation: OperationId = None,
) -> None:
    """Write a backup to one ordinary archive file.

    The archive includes the WAL that follows the backup, and needs no opskit to be used. Prints its path.
    """
    source = open_cluster(context, cluster)
    with monitored(context.obj.ending) as monitor:
        file = source.download(
            name,
            path,
            format=archive,
            wal=not no_wal,
            until=until,
            monitor=monitor,
            operation=operation,
        )
    typer.echo(file)


@app.command()
def restore(
    context: typer.Context,
    cluster: ClusterName,
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="The target: empty, or not there yet.")
    ],
    backup: Annotated[
        str, typer.Option("--backup", metavar="NAME", help="Which backup.")
    ] = "latest",
    start: Annotated[
        bool,
        typer.Option(
            "--start", help="Start the copy, leave it running, and print the psql command for it."
        ),
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="archive|data-directory",
            help="A copy as the archive unpacks, or a plain data directory for production.",
        ),
    ] = "archive",
    tablespace: Annotated[
        list[str],
        typer.Option(
            "--tablespace",
            metavar="OID=PATH",
            help="Where a tablespace goes, with --layout data-directory. Can be given several times.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  typer takes no None for a list
    at: At = None,
    lsn: AtLsn = None,
    xid: AtXid = None,
    restore_point: AtPoint = None,
    immediate: Immediate = False,
    latest: Latest = False,
    exclusive: Exclusive = False,
    timeline: Timeline = "latest",
    pause: Annotated[
        bool,
        typer.Option(
            "--pause", help="Pause recovery at the target, so that you can look and then 'advance'."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    operation: OperationId = None,
) -> None:
    """Restore a backup into a directory.

    Without a target, the copy is as it was when the backup ended. With one, the newest backup that leads there is
    chosen, and the WAL that is needed comes along. Prints the path of the data directory.
    """
    if start and layout != "archive":
        raise InputError(
            f"--start starts a copy of the layout 'archive', not of {layout!r}",
            hint="Leave one of the two out; a data directory for production is started by its service.",
        )
    places = tablespace_places(tablespace)
    target = _target(at, lsn, xid, restore_point, immediate, latest, exclusive, timeline)
    source = open_cluster(context, cluster)
    if dry_run:
        plan = source.plan_restore(
            directory, backup=backup, layout=layout, tablespaces=places, pause=pause, **target
        )
        output.print_facts(output.restore_facts(plan))
        return
    with monitored(context.obj.ending) as monitor:
        copy = source.restore(
            directory,
            backup=backup,
            layout=layout,
            tablespaces=places,
            pause=pause,
            monitor=monitor,
            operation=operation,
            **target,
        )
    if not start:
        typer.echo(copy.files.data_directory)
        return
    with monitored(context.obj.ending) as monitor:
        server = copy.start(monitor=monitor)
    typer.echo(server.psql_line())


@app.command()
def advance(
    context: typer.Context,
    directory: Directory,
    at: At = None,
    lsn: AtLsn = None,
    xid: AtXid = None,
    restore_point: AtPoint = None,
    latest: Latest = False,
    exclusive: Exclusive = False,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help="End recovery there, or where the copy is, and make it a server of its own.",
        ),
    ] = False,
    operation: OperationId = None,
) -> None:
    """Move a paused copy on to a later target.

    It is held there again, to be looked at, until --promote makes it a server of its own.
    """
    source = _copy(context, directory)
    target = _target(at, lsn, xid, restore_point, False, latest, exclusive, "latest")
    main = open_cluster(context, source.cluster)
    with monitored(context.obj.ending) as monitor:
        if operation is not None:
            server = main.advance_copy(
                directory, promote=promote, monitor=monitor, operation=operation, **target
            )
        elif promote and not target:
            server = main.copy(directory).promote()
        else:
            server = main.copy(directory).advance(pause=not promote, monitor=monitor, **target)
    typer.echo(server.psql_line())


@app.command()
def start(
    context: typer.Context, directory: Directory, port: Port = None, operation: OperationId = None
) -> None:
    """Start a restored copy, and print the psql command for it.

    It runs as the account that runs servers, with the PostgreSQL programs of its major version, until it is stopped.
    """
    copy = _copy(context, directory)
    if operation is not None:
        source = open_cluster(context, copy.cluster)
        with monitored(context.obj.ending) as monitor:
            source.run_copy(directory, port=port, monitor=monitor, operation=operation)
        return
    with waiting("starting the copy"):
        server = copy.start(port)
    typer.echo(server.psql_line())


@app.command()
def stop(context: typer.Context, directory: Directory) -> None:
    """Stop a restored copy."""
    _copy(context, directory).stop()


def _target(
    at: str | None,
    lsn: str | None,
    xid: int | None,
    restore_point: str | None,
    immediate: bool,
    latest: bool,
    exclusive: bool,
    timeline: str,
) -> "TargetArguments":
    """The options that were given, as the API takes them; empty when there is no target."""
    named: TargetArguments = {}
    if at is not None:
        named["at"] = at
    if lsn is not None:
        named["lsn"] = lsn
    if xid is not None:
        named["xid"] = xid
    if restore_point is not None:
        named["restore_point"] = restore_point
    if immediate:
        named["immediate"] = True
    if latest:
        named["latest"] = True
    if exclusive:
        named["inclusive"] = False
    if timeline != "latest":
        named["timeline"] = timeline
    return named


def tablespace_places(texts: list[str]) -> dict[int, Path]:
    """The places that ``OID=PATH`` name.

    Raises
    ------
    InputError
        One is not of that form, or a tablespace is named twice.
    """
    places: dict[int, Path] = {}
    for text in texts:
        oid, _, path = text.partition("=")
        if not (oid.isascii() and oid.isdigit() and path) or int(oid) in places:
            raise InputError(
                f"--tablespace {text!r}, expected OID=PATH, each tablespace once",
                hint="'opskit show CLUSTER BACKUP' lists the tablespaces with their oids.",
            )
        places[int(oid)] = Path(path)
    return places


def _copy(context: typer.Context, directory: Path) -> "RestoredCopy":
    from opskit.operations.copy import RestoredCopy

    return RestoredCopy.open(directory, _postgres(context.obj))


def _postgres(session: Session) -> PostgresSettings:
    """What the configuration says of programs and accounts, if there is one: a copy was carried here to be run."""
    try:
        return session.settings().postgres
    except NotFoundError:
        if session.config is not None or "OPSKIT_CONFIG" in os.environ:
            raise
        return PostgresSettings()
