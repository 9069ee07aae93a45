"""The commands on the WAL archive.

PostgreSQL starts ``push`` and ``get`` for every segment: they load nothing that takes long.
"""

from pathlib import Path
from typing import Annotated

import typer

from opskit.cli._app import ClusterName, Json, OperationId, app, open_cluster

_END_OF_ARCHIVE = 100  # see `opskit.cli.main`

wal = typer.Typer(help="Archive the WAL, so that any second can be restored.", no_args_is_help=True)
app.add_typer(wal, name="wal")

OptionalCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="NAME",
        help="Needed when more than one cluster is configured.",
        show_default=False,
    ),
]


@wal.command()
def stream(
    context: typer.Context,
    cluster: ClusterName,
    partial_seconds: Annotated[
        float | None,
        typer.Option(
            "--partial-seconds",
            metavar="N",
            min=0.1,
            help="Store the segment that is still filling every N seconds; by default as configured, or 10.",
            show_default=False,
        ),
    ] = None,
    after_gap: Annotated[
        bool,
        typer.Option(
            "--after-gap",
            help="If the server has already removed WAL that the archive lacks, leave a gap and go on after it.",
        ),
    ] = False,
    while_: Annotated[Path | None, typer.Option("--while", hidden=True)] = None,
    operation: OperationId = None,
) -> None:
    """Archive the WAL as the server writes it.

    Run it as a service; it ends with SIGTERM or SIGINT. It holds a replication slot that moves only past what is
    stored, so the server keeps the rest.
    """
    from opskit.cli._wal_output import StreamMonitor, told_with_time

    source = open_cluster(context, cluster)
    ending = context.obj.ending
    with told_with_time(), ending.gently():
        source.stream_wal(
            partial_seconds=partial_seconds,
            after_gap=after_gap,
            monitor=StreamMonitor(ending, while_),
            operation=operation,
        )


@wal.command()
def status(context: typer.Context, cluster: ClusterName, json: Json = False) -> None:
    """Show what the archive holds, lacks and is behind by.

    The exit code is 1 if something is wrong.
    """
    from opskit.cli import _wal_output as output

    found = open_cluster(context, cluster).wal_status()
    if json:
        output.print_status_json(found)
    else:
        output.print_status(found)
    if not found.passed:
        raise typer.Exit(1)


@wal.command()
def push(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file, PostgreSQL's %p.")],
    cluster: OptionalCluster = None,
) -> None:
    """Store a WAL file: archive_command = 'opskit wal push %p'."""
    from opskit.operations.wal_files import push_file
    from opskit.repository import Repository
    from opskit.store import open_store

    settings = context.obj.settings()
    repository = Repository(open_store(settings.repository_url))
    push_file(repository, settings.only_cluster(cluster).name, path)


@wal.command()
def get(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The file's name, PostgreSQL's %f.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to put it, PostgreSQL's %p.")],
    cluster: OptionalCluster = None,
) -> None:
    """Fetch a WAL file: restore_command = 'opskit wal get %f "%p"'.

    The exit code is 100 where the archive ends, and 200 or more for every failure and for a gap: PostgreSQL then
    aborts recovery, instead of taking it for the end.
    """
    from opskit.operations.wal_files import get_file
    from opskit.repository import Repository
    from opskit.store import open_store

    settings = context.obj.settings()
    repository = Repository(open_store(settings.repository_url))
    if not get_file(repository, settings.only_cluster(cluster).name, name, path):
        raise typer.Exit(_END_OF_ARCHIVE)
