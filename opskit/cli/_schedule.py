"""The commands on schedules: show, run, export."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import _output as output
from opskit.cli._app import ClusterName, Json, app, open_cluster
from opskit.errors import Cancelled
from opskit.reports.format import format_time

if TYPE_CHECKING:
    from opskit.planner import ClusterSchedule

schedule = typer.Typer(help="Take backups by schedule.", no_args_is_help=True)
app.add_typer(schedule, name="schedule")


@schedule.command()
def show(context: typer.Context, json: Json = False) -> None:
    """Show what ran, what is next and what was missed.

    One line for each cluster that has a schedule.
    """
    from opskit.planner import cluster_schedule

    now = datetime.now(UTC)
    found = [
        one
        for name in sorted(context.obj.settings().clusters)
        if (one := cluster_schedule(open_cluster(context, name), now)) is not None
    ]
    if json:
        output.print_json([_data(one) for one in found])
    elif found:
        output.print_table(
            ["Cluster", "Schedule (UTC)", "Last backup", "Now", "Next", "Missed"],
            [_cells(one) for one in found],
        )
    else:
        typer.echo("no cluster has a schedule", err=True)


@schedule.command()
def run(context: typer.Context) -> None:
    """Take backups as they become due.

    Runs until SIGTERM or Ctrl-C, and expires old backups after each new one. What is due is decided by the backups that
    exist, so a machine that slept takes one backup when it wakes.
    """
    from opskit.planner import Scheduler

    ending = context.obj.ending
    scheduler = Scheduler(
        context.obj.settings(),
        tell=lambda line: typer.echo(f"{format_time(datetime.now(UTC))}  {line}"),
        stopped=lambda: ending.asked is not None,
    )
    with ending.gently():
        scheduler.run()
    raise Cancelled("cancelled")


@schedule.command()
def export(
    context: typer.Context,
    platform: Annotated[str, typer.Argument(metavar="systemd|cron|kubernetes")],
    cluster: ClusterName,
) -> None:
    """Print units for systemd, cron or Kubernetes.

    With them the platform's own scheduler takes the cluster's backups.
    """
    from opskit.errors import InputError
    from opskit.planner import Platform, export_units

    if platform not in list(Platform):
        raise InputError(f"the platform {platform!r} is not one of {', '.join(Platform)}")
    typer.echo(export_units(context.obj.settings(), Platform(platform), cluster), nl=False)


def _cells(one: "ClusterSchedule") -> list[str]:
    state = one.state
    failed = f", failed {state.failures} times" if state.failures else ""
    return [
        one.cluster,
        one.schedule,
        one.last.name if one.last is not None else "none yet",
        f"{state.status}{failed}",
        format_time(state.next_period if state.backup is not None else state.not_before),
        ", ".join(f"{period:%Y-%m-%d %H:%M}" for period in one.missed) or "none",
    ]


def _data(one: "ClusterSchedule") -> dict[str, Any]:
    state = one.state
    return {
        "cluster": one.cluster,
        "schedule": one.schedule,
        "status": str(state.status),
        "period": state.period,
        "backup": state.backup,
        "last_backup": one.last and one.last.name,
        "not_before": state.not_before,
        "next_period": state.next_period,
        "failures": state.failures,
        "missed": list(one.missed),
    }
