"""The commands on runbooks and notebooks."""

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import _output as output
from opskit.cli._app import AnyCluster, ClusterName, Json, app
from opskit.cli._progress import waiting
from opskit.errors import InputError

if TYPE_CHECKING:
    from opskit.runbooks import Parameter

_UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}

runbook = typer.Typer(help="Run runbooks; each run leaves a report.", no_args_is_help=True)
app.add_typer(runbook, name="runbook")


@runbook.command("list")
def list_(json: Json = False) -> None:
    """List the runbooks, and what each can be given."""
    from opskit.runbooks import list_runbooks

    found = list_runbooks()
    if json:
        output.print_json([r.as_dict() for r in found])
        return
    for number, one in enumerate(found):
        typer.echo(f"{chr(10) if number else ''}{one.name}: {one.summary}")
        rows = [_told(parameter) for parameter in one.parameters if parameter.name != "cluster"]
        output.print_table(("Parameter", "Type", "Default", "What it is"), rows)


def _told(parameter: "Parameter") -> tuple[str, str, str, str]:
    default = parameter.default
    if parameter.required:
        shown = "must be given"
    elif isinstance(default, bool):
        shown = str(default).lower()
    else:
        shown = str(default) or "–"
    return parameter.name, parameter.type, shown, parameter.help


@runbook.command("run")
def run(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The runbook's name; see 'opskit runbook list'.")
    ],
    cluster: ClusterName,
    parameter: Annotated[
        list[str],
        typer.Option(
            "-p",
            "--parameter",
            metavar="KEY VALUE",
            help="A parameter of the runbook; can be given several times.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  typer takes no None for a list
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Abort the run after this long, such as 90s, 15min or 2h; by default never.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run a runbook and file its report.

    The exit code is 1 if the run fails.
    """
    from opskit.runbooks import run_runbook

    given = parameters(parameter)
    limit = None if timeout is None else duration(timeout)
    with waiting(f"running {name} on {cluster}"):
        result = run_runbook(context.obj.settings(), name, cluster, given, timeout=limit)
    if json:
        output.print_json(result.as_dict())
    else:
        typer.echo(f"{result.outcome}: {result.html or result.notebook}")
        if result.reason:
            typer.echo(result.reason, err=True)
    raise typer.Exit(result.exit_code)


@runbook.command()
def index(context: typer.Context) -> None:
    """Rebuild the index page of all reports.

    Every run updates that page. This reads all reports again, files the lost runs of this host, and prints the path of
    the page. The exit code is 1 if a report's files are not as recorded.
    """
    from opskit.reports.report import Files
    from opskit.runbooks import make_index

    page, found = make_index(context.obj.settings().reports_directory)
    typer.echo(page)
    changed = [report for report in found if report.files is Files.CHANGED]
    for report in changed:
        typer.echo(f"{report.name}: {report.changed}", err=True)
    if changed:
        raise typer.Exit(1)


@app.command()
def reports(
    context: typer.Context,
    cluster: AnyCluster = None,
    json: Json = False,
) -> None:
    """List the runs of runbooks, newest first.

    The list includes runs that are still going on, and runs whose processes were lost.
    """
    from opskit.reports.index import read_reports

    settings = context.obj.settings()
    if cluster is not None:
        settings.cluster(cluster)
    directory = settings.reports_directory
    found = read_reports(directory, cluster or "*")
    if json:
        output.print_json([output.report_record(report, directory) for report in found])
    else:
        output.print_reports(found, with_cluster=cluster is None)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open the notebooks in JupyterLab.

    They are copied to ./notebooks first; files that are already there stay as they are. All further options are passed
    on to JupyterLab.
    """
    from opskit.cli._lab import open_lab, shipped_notebooks, working_copy
    from opskit.config import find_configuration

    configuration = find_configuration(context.obj.config)
    directory = working_copy(shipped_notebooks(), Path("notebooks").absolute())
    open_lab(configuration, directory, context.args)


def duration(text: str) -> timedelta:
    """What ``90s``, ``15min``, ``2h`` or ``1d`` says.

    Raises
    ------
    InputError
        It says no duration above zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", text.strip())
    found = timedelta(seconds=float(match[1]) * _UNITS[match[2]]) if match else timedelta()
    if not found:
        raise InputError(
            f"the duration is {text!r}, expected a number and its unit",
            hint="Write it as 90s, 15min, 2h or 1d.",
        )
    return found


def parameters(texts: list[str]) -> dict[str, str]:
    """The values that ``KEY=VALUE`` give (`opskit.cli._run.join_parameters` makes them of ``KEY VALUE``).

    Raises
    ------
    InputError
        One is not of that form, or a parameter is given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or key in values:
            raise InputError(
                f"the parameter {text!r} is given {'twice' if equals and key else 'without a value'}",
                hint="Write each once, as -p KEY VALUE.",
            )
        values[key] = value
    return values
