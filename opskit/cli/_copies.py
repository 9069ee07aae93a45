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
    from opskit.operations.copy import RestoredCopy

Directory = Annotated[
    Path, typer.Argument(metavar="DIRECTORY", help="Where a backup was restored to.")
]
Port = Annotated[
    int | None,
    typer.Option("--port", metavar="NUMBER", help="By default a free one.", show_default=False),
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
            help="A file or a directory; by default CLUSTER-BACKUP.tar.zst here.",
            show_default=False,
        ),
    ] = Path(),
    archive: Annotated[
        str,
        typer.Option("--format", metavar="tar.zst|tar.gz|tar", help="What the archive comes as."),
    ] = "tar.zst",
    operation: OperationId = None,
) -> None:
    """Write a backup to one ordinary archive, and print its path."""
    source = open_cluster(context, cluster)
    with monitored(context.obj.ending) as monitor:
        file = source.download(name, path, format=archive, monitor=monitor, operation=operation)
    typer.echo(file)


@app.command()
def restore(
    context: typer.Context,
    cluster: ClusterName,
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where to: empty, or to be made.")
    ],
    backup: Annotated[
        str, typer.Option("--backup", metavar="NAME", help="Which backup.")
    ] = "latest",
    start: Annotated[
        bool,
        typer.Option("--start", help="Start the copy, leave it running, and print the psql line."),
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="archive|data-directory",
            help="As the archive unpacks, to be started as a copy; or a data directory for production.",
        ),
    ] = "archive",
    tablespace: Annotated[
        list[str],
        typer.Option(
            "--tablespace",
            metavar="OID=PATH",
            help="Where a tablespace goes in the layout 'data-directory'; can be given several times.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  typer takes no None for a list
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    operation: OperationId = None,
) -> None:
    """Put a backup's files back, and print the data directory."""
    if start and layout != "archive":
        raise InputError(
            f"--start starts a copy of the layout 'archive', not of {layout!r}",
            hint="Leave one of the two out; a data directory for production is started by its service.",
        )
    places = tablespace_places(tablespace)
    source = open_cluster(context, cluster)
    if dry_run:
        plan = source.plan_restore(directory, backup=backup, layout=layout, tablespaces=places)
        output.print_facts(output.restore_facts(plan))
        return
    with monitored(context.obj.ending) as monitor:
        copy = source.restore(
            directory,
            backup=backup,
            layout=layout,
            tablespaces=places,
            monitor=monitor,
            operation=operation,
        )
    if not start:
        typer.echo(copy.files.data_directory)
        return
    with waiting("starting the copy"):
        server = copy.start()
    typer.echo(server.psql_line())


@app.command()
def start(context: typer.Context, directory: Directory, port: Port = None) -> None:
    """Start a restored copy, and print the psql line.

    It runs as the account that runs servers, with the PostgreSQL programs of its major version, until it is stopped.
    """
    copy = _copy(context, directory)
    with waiting("starting the copy"):
        server = copy.start(port)
    typer.echo(server.psql_line())


@app.command()
def stop(context: typer.Context, directory: Directory) -> None:
    """Stop a restored copy."""
    _copy(context, directory).stop()


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
