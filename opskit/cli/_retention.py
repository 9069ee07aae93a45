"""The commands on what is kept, and how: expire, delete, consolidate, hold, release."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import _output as output
from opskit.cli._app import BackupName, ClusterName, Json, OperationId, app, open_cluster
from opskit.cli._progress import monitored, waiting
from opskit.errors import InputError
from opskit.reports.format import format_bytes

if TYPE_CHECKING:
    from opskit.operations.expire import Expired, ExpirePlan, LostInterval


@app.command()
def expire(
    context: typer.Context,
    cluster: ClusterName,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed and why; change nothing.")
    ] = False,
    json: Json = False,
    operation: OperationId = None,
) -> None:
    """Remove what the retention policy no longer keeps.

    That is backups, and the WAL that no remaining backup needs.
    """
    source = open_cluster(context, cluster)
    plan = source.plan_expire()
    with waiting("reading the WAL archive's ends"):
        lost = source.intervals_lost(plan)
    if not json:
        _print_plan(plan, lost)
    done = None
    if not dry_run and not plan.is_empty:
        with monitored(context.obj.ending) as monitor:
            done = source.expire(plan, monitor=monitor, operation=operation)
    if json:
        output.print_json({**_plan_data(plan, lost), "done": done and _done_data(done)})
    elif done is not None:
        _print_done(done)


@app.command()
def delete(
    context: typer.Context,
    cluster: ClusterName,
    backup: Annotated[
        str, typer.Argument(metavar="BACKUP", help="The backup's name in full; not 'latest'.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    even_last: Annotated[
        bool,
        typer.Option("--even-last", help="Delete it even if it is the only backup of its server."),
    ] = False,
    operation: OperationId = None,
) -> None:
    """Delete one backup for good.

    The WAL that no other backup needs goes with it.
    """
    source = open_cluster(context, cluster)
    plan = source.plan_delete(backup, even_last=even_last)
    if operation is None:
        with waiting("reading the WAL archive's ends"):
            lost = source.intervals_lost(plan)
        _print_sentences(plan, lost)
    if dry_run:
        return
    if not yes:
        _ask_for(cluster, backup)
    with monitored(context.obj.ending) as monitor:
        done = source.delete(backup, even_last=even_last, monitor=monitor, operation=operation)
    _print_done(done)


@app.command()
def consolidate(
    context: typer.Context,
    cluster: ClusterName,
    backup: BackupName,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    operation: OperationId = None,
) -> None:
    """Turn an increment into a full backup.

    It keeps its name. Increments that are based on it go on working; it does not need what it was based on any more.
    """
    source = open_cluster(context, cluster)
    if dry_run:
        typer.echo(source.plan_consolidate(backup).words)
        return
    with monitored(context.obj.ending) as monitor:
        done = source.consolidate(backup, monitor=monitor, operation=operation)
    typer.echo(f"{done.name} is a full backup, stored as {format_bytes(done.stored_bytes)}")


@app.command()
def hold(
    context: typer.Context,
    cluster: ClusterName,
    backup: BackupName,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is kept.")] = "",
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="When the hold ends; by default when it is released."
        ),
    ] = None,
) -> None:
    """Keep a backup whatever the retention policy says."""
    placed = open_cluster(context, cluster).hold(backup, reason, until=until)
    typer.echo(f"{placed.backup} is {placed.words}")


@app.command()
def release(context: typer.Context, cluster: ClusterName, backup: BackupName) -> None:
    """Release a backup that is on hold."""
    open_cluster(context, cluster).release(backup)


def _print_plan(plan: "ExpirePlan", lost: "list[LostInterval] | None") -> None:
    if plan.decisions:
        output.print_table(
            ["Backup", "Started by", "Stored", "What", "Why"],
            [
                [
                    decision.backup.name,
                    str(decision.backup.trigger),
                    format_bytes(decision.backup.stored_bytes),
                    "keep" if decision.keep else "expire",
                    "; ".join(decision.reasons),
                ]
                for decision in plan.decisions
            ],
        )
    _print_sentences(plan, lost)


def _print_sentences(plan: "ExpirePlan", lost: "list[LostInterval] | None") -> None:
    from opskit.reports.removal import describe

    for line in describe(plan, lost):
        typer.echo(line)


def _ask_for(cluster: str, backup: str) -> None:
    """Have the cluster's name typed."""
    question = f"Type the cluster's name to delete {backup}"
    if not sys.stdin.isatty():
        raise InputError(
            f"nobody can be asked whether to delete {backup!r}",
            hint="Look at it with --dry-run, then pass --yes.",
        )
    typed = typer.prompt(question, default="", show_default=False, err=True)
    if typed.strip() != cluster:
        raise InputError(f"{typed!r} was typed, expected {cluster!r}: nothing was deleted")


def _print_done(done: "Expired") -> None:
    for name, reason in done.kept_after_all.items():
        typer.echo(f"kept after all: {name}, {reason}")
    typer.echo(
        f"removed: {_count(len(done.backups), 'backup')}, {_count(done.wal_segments, 'WAL segment')};"
        f" {format_bytes(done.freed_bytes)} freed"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _plan_data(plan: "ExpirePlan", lost: "list[LostInterval] | None") -> Mapping[str, Any]:
    return {
        "cluster": plan.cluster,
        "backups": [
            {
                "name": decision.backup.name,
                "keep": decision.keep,
                "reasons": list(decision.reasons),
                "stored_bytes": decision.backup.stored_bytes,
            }
            for decision in plan.decisions
        ],
        "unfinished": list(plan.abandoned),
        "wal_segments": len(plan.wal),
        "freed_bytes": plan.freed_bytes,
        "intervals_lost": None
        if lost is None
        else [
            {"timeline": one.timeline, "from_at": one.from_at, "to_at": one.to_at} for one in lost
        ],
    }


def _done_data(done: "Expired") -> Mapping[str, Any]:
    return {
        "backups": list(done.backups),
        "kept_after_all": dict(done.kept_after_all),
        "wal_segments": done.wal_segments,
        "freed_bytes": done.freed_bytes,
    }
