"""The commands on alarms: run, test."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import _output as output
from opskit.cli._app import Json, app
from opskit.cli._run import one_line
from opskit.errors import ErrorKind, InputError, OpskitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opskit.alarms import AlarmRun, Delivery, Receiver

alarms = typer.Typer(
    help="Send an alarm when something failed or backups stopped.", no_args_is_help=True
)
app.add_typer(alarms, name="alarms")


@alarms.command()
def run(
    context: typer.Context,
    clusters: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLUSTER", help="By default all clusters.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent; send nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Check all clusters once, and send what is new.

    Each receiver is told once what is wrong, again after a day, and once when all is well again. What could not be
    delivered is sent the next time. Run this from cron, on another machine than the backups, so that you are also told
    when the backup machine is gone.
    """
    from opskit.alarms import run_alarms

    settings = context.obj.settings()
    names = [settings.cluster(name).name for name in clusters or sorted(settings.clusters)]
    done = run_alarms(settings, names, _receivers(context, none_will_do=dry_run), dry_run=dry_run)
    if json:
        output.print_json(_data(done))
    else:
        _print(done, dry_run)
    if done.error:
        typer.echo(f"opskit: {one_line(done.error)}", err=True)
    _must_be_taken(done.deliveries)


@alarms.command()
def test(context: typer.Context) -> None:
    """Send every receiver a test message."""
    from opskit.alarms import send_test

    deliveries = send_test(_receivers(context))
    for delivery in deliveries:
        if not delivery.error:
            typer.echo(f"{delivery.receiver}: sent")
    _must_be_taken(deliveries)


def _receivers(context: typer.Context, *, none_will_do: bool = False) -> "list[Receiver]":
    from opskit.alarms import receivers
    from opskit.config import alarm_urls

    urls = alarm_urls(context.obj.settings().alarms)
    if not urls and not none_will_do:
        raise InputError(
            "no receiver of alarms is configured",
            ErrorKind.WRONG_SETTING,
            'Write urls_file = "alarms.urls" below [alarms]: a file of mode 0600 with one apprise URL a line.',
        )
    return receivers(urls)


def _print(done: "AlarmRun", dry_run: bool) -> None:
    for cluster, findings in done.found.items():
        for finding in findings:
            if not finding.passed:
                typer.echo(f"{cluster}: {finding.name}: {one_line(finding.message)}")
    for delivery in done.deliveries:
        if dry_run:
            typer.echo(f"would send to {delivery.receiver}: {one_line(delivery.notice.title)}")
        elif not delivery.error:
            typer.echo(f"sent to {delivery.receiver}: {one_line(delivery.notice.title)}")
    if dry_run and not done.deliveries:
        typer.echo("nothing would be sent", err=True)


def _data(done: "AlarmRun") -> dict[str, object]:
    return {
        "clusters": {
            cluster: [output.finding_data(finding) for finding in findings]
            for cluster, findings in done.found.items()
        },
        "deliveries": [
            {
                "receiver": delivery.receiver,
                "severity": str(delivery.notice.severity),
                "title": delivery.notice.title,
                "text": delivery.notice.text,
                "error": delivery.error,
            }
            for delivery in done.deliveries
        ],
    }


def _must_be_taken(deliveries: "Sequence[Delivery]") -> None:
    failed = [delivery.error for delivery in deliveries if delivery.error]
    if failed:
        raise OpskitError(
            f"{len(failed)} of {len(deliveries)} alarms were not delivered: {'; '.join(failed)}",
            ErrorKind.ALARM_NOT_SENT,
            "It is sent again the next time; 'opskit alarms test' shows whether the receivers can be reached.",
        )
