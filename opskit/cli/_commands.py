"""The commands on a cluster and its backups."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import _output as output
from opskit.cli._app import (
    AnyCluster,
    BackupName,
    ClusterName,
    Json,
    OperationId,
    app,
    open_cluster,
)
from opskit.cli._progress import monitored, waiting
from opskit.errors import InputError
from opskit.model.backup import Trigger
from opskit.model.increment import BackupMode

if TYPE_CHECKING:
    from opskit.model.freshness import FreshnessFinding
    from opskit.operations.check import Finding


@app.command()
def demo(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIRECTORY", help="By default the current directory.", show_default=False
        ),
    ] = Path(),
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server; its data stays.")] = False,
) -> None:
    """Start a PostgreSQL server with sample data.

    It also writes an opskit.toml for that server. Run it again to restart the server. To get rid of the demo, stop it
    and remove the directory.
    """
    from opskit.demo import start_demo, stop_demo

    if stop:
        stop_demo(directory)
        return
    with waiting("making and starting the demo's PostgreSQL"):
        result = start_demo(directory)
    output.print_facts(output.demo_facts(result))


@app.command()
def check(context: typer.Context, cluster: ClusterName, json: Json = False) -> None:
    """Check the server, the repository and the age of the backups.

    A finding that failed comes with a hint what to do. The exit code is 1 if any failed.
    """
    source = open_cluster(context, cluster)
    findings: list[Finding | FreshnessFinding] = [*source.check(), *source.freshness()]
    if json:
        output.print_json([output.finding_data(finding) for finding in findings])
    else:
        output.print_findings(findings)
    if not all(finding.passed for finding in findings):
        raise typer.Exit(1)


@app.command()
def backup(
    context: typer.Context,
    cluster: ClusterName,
    note: Annotated[
        str,
        typer.Option(
            "--note", metavar="TEXT", help="Kept with the backup and shown wherever it is listed."
        ),
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="Take a full backup.")] = False,
    incremental: Annotated[
        bool,
        typer.Option("--incremental", help="Take an increment, or fail if there can be none."),
    ] = False,
    trigger: Annotated[Trigger, typer.Option("--trigger", hidden=True)] = Trigger.ON_DEMAND,
    scheduled_for: Annotated[str | None, typer.Option("--scheduled-for", hidden=True)] = None,
    operation: OperationId = None,
) -> None:
    """Take a backup now, and print its name.

    It is an increment where the server can tell what changed since an earlier backup (PostgreSQL 17 and later, with
    summarize_wal = on), and otherwise a full one. 'opskit show' says which it became, and why.
    """
    if full and incremental:
        raise InputError("a backup is either --full or --incremental")
    mode = BackupMode.FULL if full else BackupMode.INCREMENTAL if incremental else BackupMode.AUTO
    source = open_cluster(context, cluster)
    with monitored(context.obj.ending) as monitor:
        made = source.create_backup(
            note=note,
            trigger=trigger,
            scheduled_for=scheduled_for,
            mode=mode,
            monitor=monitor,
            operation=operation,
        )
    typer.echo(made.name)


@app.command()
def backups(
    context: typer.Context,
    cluster: AnyCluster = None,
    json: Json = False,
) -> None:
    """List backups, newest first.

    The list includes those that are running or have failed.
    """
    names = [cluster] if cluster is not None else sorted(context.obj.settings().clusters)
    rows = [
        row
        for name in names
        for row in output.backup_rows(name, open_cluster(context, name).backup_rows())
    ]
    if json:
        output.print_json(rows)
    else:
        output.print_backups(rows, with_cluster=cluster is None)


@app.command()
def show(
    context: typer.Context, cluster: ClusterName, name: BackupName, json: Json = False
) -> None:
    """Show the details of one backup."""
    backup = open_cluster(context, cluster).backup(name)
    if json:
        output.print_json(output.backup_record(backup))
    else:
        output.print_facts(output.backup_facts(backup))
