"""A new cluster: its data directory, as ``initdb`` makes it."""

from collections.abc import Mapping
from pathlib import Path

from opskit.errors import ErrorKind, ServerError
from opskit.postgres.account import Account, make_directory
from opskit.postgres.programs import Programs


def init_cluster(
    programs: Programs,
    directory: Path,
    *,
    account: Account | None,
    superuser: str = "focker",
    data_checksums: bool = True,
    wal_segment_megabytes: int = 16,
    options: Mapping[str, str] | None = None,
) -> None:
    """Make a new cluster in `directory`, which is missing or empty; `options` go into its ``postgresql.conf``.

    Its databases are in UTF-8 and the C locale, which every machine has and sorts alike. Whoever can open its socket
    is let in; over TCP a password is asked for, and there is none yet.

    Raises
    ------
    ServerError
        ``initdb`` failed; the message ends with its reason.
    """
    directory = directory.absolute()
    make_directory(directory, account)
    done = programs.run(
        "initdb",
        f"--pgdata={directory}",
        f"--username={superuser}",
        f"--wal-segsize={wal_segment_megabytes}",
        *(["--data-checksums"] if data_checksums else _no_data_checksums(programs)),
        "--encoding=UTF8",
        "--no-locale",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        account=account,
        environment={"TZ": "UTC"},  # the time zone of the log and of sessions
    )
    if done.exit_code != 0:
        errors = [line for line in done.output.splitlines() if "error:" in line or "FATAL:" in line]
        said = (errors or done.output.strip().splitlines()[-1:] or ["nothing"])[0]
        raise ServerError(
            f"initdb cannot make a cluster in {str(directory)!r}: {said.removeprefix('initdb: error: ')}",
            ErrorKind.SERVER_NOT_STARTED,
            "Give the account that runs servers an empty directory that it can reach.",
        )
    with (directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        for name, value in (options or {}).items():
            file.write(f"{name} = {_quoted(value)}\n")


def _no_data_checksums(programs: Programs) -> list[str]:
    return ["--no-data-checksums"] if programs.major >= 18 else []  # on by default since 18


def _quoted(value: str) -> str:
    """A value as it stands in ``postgresql.conf``."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
