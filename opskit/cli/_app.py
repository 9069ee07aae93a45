"""The command's frame: global options, and the arguments that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import opskit
from opskit.cli._run import Session

if TYPE_CHECKING:
    from opskit.cluster import Cluster

app = typer.Typer(
    name="opskit",
    help="PostgreSQL backups that you operate from a notebook, carry home, start anywhere, and can prove you can"
    " restore.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: quick, and "[clusters]" is no markup
    context_settings={"help_option_names": ["-h", "--help"]},
)

ClusterName = Annotated[
    str, typer.Argument(metavar="CLUSTER", help="The cluster's name in opskit.toml.")
]
AnyCluster = Annotated[
    str | None,
    typer.Argument(metavar="CLUSTER", help="By default all clusters.", show_default=False),
]
BackupName = Annotated[str, typer.Argument(metavar="BACKUP", help="A backup's name, or 'latest'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
# Given by `opskit.operations.process` to the commands that it starts.
OperationId = Annotated[str | None, typer.Option("--operation", hidden=True)]


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="PATH",
            help="The configuration file; by default $OPSKIT_CONFIG, ./opskit.toml, or ~/.config/opskit/opskit.toml.",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=lambda v: _version(v)
        ),
    ] = False,
) -> None:
    """Take the global options."""
    session: Session = context.obj
    session.config, session.debug = config, debug


def open_cluster(context: typer.Context, name: str) -> "Cluster":
    """The cluster of that name in the configuration."""
    from opskit.cluster import cluster

    return cluster(name, context.obj.config)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"opskit {opskit.__version__}")
        raise typer.Exit
