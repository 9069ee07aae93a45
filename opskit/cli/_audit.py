"""The commands on the audit trail."""

import json as json_
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import _output as output
from opskit.cli._app import AnyCluster, Json, app
from opskit.cli._run import one_line
from opskit.errors import ErrorKind, StoreError

if TYPE_CHECKING:
    from opskit.evidence.verify import AuditVerdict
    from opskit.model.audit import StoredEntry

_SHOWN = 20
_MODE = 0o600

audit = typer.Typer(
    help="Show who did what, and prove that nobody changed the record.",
    no_args_is_help=True,
)
app.add_typer(audit, name="audit")


@audit.command()
def log(
    context: typer.Context,
    cluster: AnyCluster = None,
    json: Json = False,
) -> None:
    """List the entries of the audit log, newest first.

    An operation or a run of a runbook is entered when it ends.
    """
    settings = context.obj.settings()
    if cluster is not None:
        settings.cluster(cluster)
    rows = [data for one in reversed(_entries(context)) if (data := _data(one)) is not None]
    rows = [row for row in rows if cluster in (None, row["cluster"])]
    if json:
        output.print_json(rows)
    elif rows:
        output.print_table(
            ("Entry", "At (UTC)", "What", "Cluster", "Outcome", "Who", "Host", "Object"),
            [_cells(row) for row in rows],
            optional=("Host", "Cluster"),
        )
    else:
        typer.echo("no entries", err=True)


@audit.command()
def verify(
    context: typer.Context,
    key: Annotated[
        list[Path],
        typer.Option(
            "--key",
            metavar="PUB",
            help="A public key to trust; by default those of the configuration.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  typer takes no None for a list
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="DIGEST", help="The digest of an entry that the log must contain."
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Read an exported log or an SQLite catalog, and no configuration.",
        ),
    ] = None,
    reports: Annotated[
        Path | None,
        typer.Option(
            "--reports",
            metavar="DIRECTORY",
            help="The directory of the reports that belong to the log.",
        ),
    ] = None,
    certificate: Annotated[
        list[Path],
        typer.Option(
            "--certificate",
            metavar="PEM",
            help="A root certificate of the time-stamp authority.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Check that nobody changed the log or the reports.

    It finds what was edited, removed, inserted, reordered or cut off. The exit code is 1 if anything was.

    With --log or --reports it reads these files only: no configuration, no catalog, no server.
    """
    from opskit.cluster import verify_audit
    from opskit.evidence.verify import verify_offline

    if log is None and reports is None and not certificate:
        verdict = verify_audit(context.obj.config, keys=key, head=head)
    else:
        verdict = verify_offline(log, reports, keys=key, head=head, certificates=certificate)
    if json:
        output.print_json(_verdict_data(verdict))
    else:
        _print_verdict(verdict)
    if not verdict.passed:
        raise typer.Exit(1)


@audit.command()
def export(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write; replaced if it exists.")
    ],
) -> None:
    """Write the log to a file of JSON Lines.

    'opskit audit verify --log' reads that file anywhere.
    """
    from opskit.evidence.log import export_lines

    entries = _entries(context)
    part = file.with_name(f".{file.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, _MODE), "wb") as out:
            out.write(export_lines(entries))
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"the log cannot be written to {str(file)!r}: {(error.strerror or '').lower()}",
            ErrorKind.STORE_NOT_WRITABLE,
            "Name another place.",
        ) from None
    last = entries[-1].sha256 if entries else "none"
    typer.echo(f"{len(entries):,} entries, head {last}", err=True)


@audit.command("init-key")
def init_key(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="The private key's file; by default as configured, or audit.key beside opskit.toml.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a key pair that signs entries and reports.

    An existing file is never overwritten.
    """
    from opskit.evidence.keys import init_key

    if path is None:
        settings = context.obj.settings()
        path = settings.audit.key or settings.file.parent / "audit.key"
    public = init_key(path.absolute())
    typer.echo(f"private key  {path.absolute()}\npublic key   {public}\n\nAdd to opskit.toml:\n")
    typer.echo(f"[audit]\nkey = {json_.dumps(str(path.absolute()), ensure_ascii=False)}\n")
    typer.echo(
        "Keep a copy of the public key where whoever can write here cannot: what is signed is then checked by\n"
        f"'opskit audit verify --key {public.name}'. Keep the private key out of backups of this machine's reports.",
    )


def _entries(context: typer.Context) -> "list[StoredEntry]":
    from opskit.evidence.log import open_catalog

    return open_catalog(context.obj.settings()).audit_entries()


def _data(one: "StoredEntry") -> dict[str, Any] | None:
    entry = one.read()
    return None if entry is None else {**entry.as_dict(), "sha256": one.sha256}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    report = row["report"] and row["report"]["path"]
    who = row["actor"] + (f" ({row['jupyter_user']})" if row["jupyter_user"] else "")
    at = row["at"].replace("T", " ")[:19]
    of = report or row["backup"] or ""
    return str(row["number"]), at, row["what"], row["cluster"], row["outcome"], who, row["host"], of


def _print_verdict(verdict: "AuditVerdict") -> None:
    for finding in verdict.findings[:_SHOWN]:
        typer.echo(f"FAIL  {one_line(finding.message)}")
    if len(verdict.findings) > _SHOWN:
        typer.echo(f"FAIL  and {len(verdict.findings) - _SHOWN:,} more, see --json")
    for note in verdict.notes:
        typer.echo(f"note  {one_line(note)}")
    looked = f"{verdict.entries:,} {'entry' if verdict.entries == 1 else 'entries'}"
    looked += f" and {verdict.reports:,} report{'s'[: verdict.reports != 1]}"
    if verdict.passed:
        typer.echo(f"ok    {looked} are as they were written, as far as the files show")
    else:
        found = len(verdict.findings)
        typer.echo(f"FAIL  {found:,} fault{'s'[: found != 1]} in {looked}")
    typer.echo(f"head  {verdict.head.number} {verdict.head.sha256}")


def _verdict_data(verdict: "AuditVerdict") -> dict[str, Any]:
    return {
        "passed": verdict.passed,
        "entries": verdict.entries,
        "reports": verdict.reports,
        "head": verdict.head.as_dict(),
        "findings": [
            {"fault": f.fault, "subject": f.subject, "message": f.message} for f in verdict.findings
        ],
        "notes": verdict.notes,
    }
