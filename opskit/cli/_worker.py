"""The commands of a fleet: the worker, and what its queue holds."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import _output as output
from opskit.cli._app import Json, app
from opskit.errors import Cancelled
from opskit.reports.format import format_time

if TYPE_CHECKING:
    from opskit.planner import FleetStatus, JobStatus, WorkerStatus

worker = typer.Typer(
    help="Share scheduled work with other hosts.",
    invoke_without_command=True,
)
app.add_typer(worker, name="worker")


@worker.callback()
def run(
    context: typer.Context,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            help="How many runbooks it runs at once; by default as configured in [fleet], or 1.",
        ),
    ] = None,
    store_limit: Annotated[
        int | None,
        typer.Option(
            "--store-limit",
            metavar="N",
            min=1,
            help="How many runbooks all workers together run at once; by default as in [fleet], or unlimited.",
        ),
    ] = None,
) -> None:
    """Share scheduled work with other hosts.

    Takes the backups that are due, through a queue in PostgreSQL, until SIGTERM or Ctrl-C. A run that is still going on
    then is aborted and filed, and goes back to the queue for the other workers.
    """
    if context.invoked_subcommand is not None:
        return
    from opskit.planner import open_worker

    ending = context.obj.ending
    one = open_worker(
        context.obj.settings(),
        jobs=jobs,
        store_limit=store_limit,
        tell=lambda line: typer.echo(f"{format_time(datetime.now(UTC))}  {line}"),
        stopped=lambda: ending.asked is not None,
    )
    with ending.gently():
        one.run()
    raise Cancelled("cancelled")


@worker.command()
def status(context: typer.Context, json: Json = False) -> None:
    """Show the workers, and what runs and waits in the queue."""
    from opskit.planner import fleet_status

    found = fleet_status(context.obj.settings())
    if json:
        output.print_json(_data(found))
        return
    if found.workers:
        heading = ["Worker", "Jobs at once", "Since", "Last sign of life"]
        output.print_table(heading, [_worker_cells(one) for one in found.workers])
    else:
        typer.echo("no worker is at it", err=True)
    if found.jobs:
        heading = ["Cluster", "Backup for", "Now", "Since", "Worker", "Tries"]
        output.print_table(heading, [_cells(job) for job in found.jobs])
    else:
        typer.echo("nothing runs or waits", err=True)


def _worker_cells(one: "WorkerStatus") -> list[str]:
    times = [format_time(at) for at in (one.started_at, one.heartbeat_at)]
    return [f"{one.host}:{one.pid}", str(one.jobs), *times]


def _cells(job: "JobStatus") -> list[str]:
    now = "running" if job.is_running else "waiting"
    if job.not_before is not None:
        now = f"again from {format_time(job.not_before)} on"
    lost = "lost" if job.is_running else ""
    return [
        job.cluster,
        format_time(job.period),
        now,
        format_time(job.since),
        job.worker or lost,
        str(job.tries),
    ]


def _data(found: "FleetStatus") -> dict[str, Any]:
    return {
        "queue": found.queue,
        "workers": [
            {
                "host": w.host,
                "pid": w.pid,
                "jobs": w.jobs,
                "started_at": w.started_at,
                "heartbeat_at": w.heartbeat_at,
            }
            for w in found.workers
        ],
        "jobs": [
            {
                "cluster": job.cluster,
                "period": job.period,
                "status": "running" if job.is_running else "waiting",
                "since": job.since,
                "not_before": job.not_before,
                "tries": job.tries,
                "worker": job.worker,
            }
            for job in found.jobs
        ],
    }
