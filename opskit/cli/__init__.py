"""The ``opskit`` command.

A *command* reads its arguments, calls the public API and shows what it gives: data on stdout, everything else on
stderr. Nothing is decided here. Modules that take long to load (pandas, SQLAlchemy, Jupyter) are imported by the
commands that need them, so that ``opskit --help`` answers at once.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (by default those of the process), and give the exit code.

    0 done, 1 a finding or a failed check, 2 wrong usage, 3 not found, 4 conflict, 5 server, 6 store, 7 integrity,
    8 recovery, 129, 130 and 143 ended by SIGHUP, SIGINT and SIGTERM.
    """
    from opskit.cli import _commands, _copies, _runbooks  # noqa: F401  they enter their commands
    from opskit.cli._app import app
    from opskit.cli._run import run

    return run(app, arguments)
