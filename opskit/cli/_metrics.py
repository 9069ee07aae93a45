"""The command that tells Prometheus."""

from pathlib import Path
from typing import Annotated

import typer

from opskit.cli._app import app
from opskit.errors import Cancelled, InputError

_PATIENCE_SECONDS = 5.0  # half of what Prometheus waits for an answer by default


@app.command()
def metrics(
    context: typer.Context,
    clusters: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLUSTER", help="By default all clusters.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write them to a file, in one step, for node_exporter's textfile collector.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="[HOST:]PORT",
            help="Serve /metrics until SIGTERM or Ctrl-C; on loopback unless a host is given.",
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Print a dashboard for Grafana.")
    ] = False,
    rules: Annotated[
        bool, typer.Option("--rules", help="Print alerting rules for Prometheus.")
    ] = False,
) -> None:
    """Print or serve metrics for Prometheus.

    They say how fresh the backups and the WAL archive are. By default they are printed.
    """
    from opskit.metrics import Metrics, serve, shipped, write_file

    if sum((output is not None, listen is not None, dashboard, rules)) > 1:
        raise InputError("only one of --output, --listen, --dashboard and --rules can be given")
    if dashboard or rules:
        typer.echo(shipped("grafana.json" if dashboard else "rules.yml"), nl=False)
        return
    settings = context.obj.settings()
    names = [settings.cluster(name).name for name in clusters or sorted(settings.clusters)]
    told = Metrics(settings, names, patience_seconds=None if listen is None else _PATIENCE_SECONDS)
    if listen is None and output is None:
        typer.echo(told.text().decode(), nl=False)
    elif output is not None:
        write_file(output, told.text())
    elif listen is not None:
        host, port = _address(listen)
        ending = context.obj.ending
        with ending.gently():
            serve(
                told,
                host,
                port,
                stopped=lambda: ending.asked is not None,
                ready=lambda: typer.echo(f"serving {_url(host, port)}", err=True),
            )
        raise Cancelled("cancelled")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            f"the address {text!r} is not of the form HOST:PORT", hint="For example 127.0.0.1:9187."
        )
    return host.strip("[]") or "127.0.0.1", int(port)


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
