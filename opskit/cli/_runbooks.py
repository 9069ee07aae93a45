"""The commands on runbooks and notebooks."""

from pathlib import Path
from typing import Annotated

import typer

from opskit.cli import _output as output
from opskit.cli._app import ClusterName, Json, app
from opskit.cli._progress import waiting
from opskit.errors import InputError

runbook = typer.Typer(
    help="Run notebooks whose executed copies prove what was done.", no_args_is_help=True
)
app.add_typer(runbook, name="runbook")


@runbook.command("list")
def list_(json: Json = False) -> None:
    """List the runbooks."""
    from opskit.runbooks import list_runbooks

    found = list_runbooks()
    if json:
        output.print_json([{"name": r.name, "title": r.title, "summary": r.summary} for r in found])
    else:
        output.print_table(("Runbook", "What it does"), [(r.name, r.summary) for r in found])


@runbook.command("run")
def run(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A runbook, see 'opskit runbook list'.")
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
    json: Json = False,
) -> None:
    """Run a runbook and file its report; exit code 1 if it fails."""
    from opskit.runbooks import run_runbook

    given = parameters(parameter)
    with waiting(f"running {name} on {cluster}"):
        result = run_runbook(context.obj.settings(), name, cluster, given)
    if json:
        output.print_json(result.as_dict())
    else:
        typer.echo(f"{result.outcome}: {result.html or result.notebook}")
        if result.reason:
            typer.echo(result.reason, err=True)
    raise typer.Exit(result.exit_code)


@runbook.command()
def index(context: typer.Context) -> None:
    """Make the page on all reports anew, and print where it is; exit code 1 if files are not as recorded.

    Every run updates it. This reads every report again, and files the runs of this host that were lost.
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
    cluster: Annotated[
        str | None,
        typer.Argument(metavar="[CLUSTER]", help="By default all clusters.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the runs of runbooks, newest first, with those that go on or were lost."""
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
    """Open JupyterLab on the notebooks.

    They are copied to ./notebooks, where changed ones stay as they are. Further options are JupyterLab's.
    """
    from opskit.cli._lab import open_lab, shipped_notebooks, working_copy
    from opskit.config import find_configuration

    configuration = find_configuration(context.obj.config)
    directory = working_copy(shipped_notebooks(), Path("notebooks").absolute())
    open_lab(configuration, directory, context.args)


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
