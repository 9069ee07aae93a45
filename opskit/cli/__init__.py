"""The ``opskit`` command.

A *command* reads its arguments, calls the public API and shows what it gives: data on stdout, everything else on
stderr. Nothing is decided here. Modules that take long to load (pandas, SQLAlchemy, Jupyter) are imported by the
commands that need them, so that ``opskit --help`` answers at once.
"""

import sys

TYPE_CHECKING = False  # typing's would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_END_OF_ARCHIVE = 100
_TAKEN_FOR_THE_END = 125
_ABORT = 200


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run the command with `arguments` (by default those of the process), and give the exit code.

    0 done, 1 a finding or a failed check, 2 wrong usage, 3 not found, 4 conflict, 5 server, 6 store, 7 integrity,
    8 recovery, 129, 130 and 143 ended by SIGHUP, SIGINT and SIGTERM.

    PostgreSQL takes every code of a ``restore_command`` up to 125 for the end of the archive, and ends recovery there.
    So ``opskit wal get`` has 100 for that end, and gives 200 more for everything else.
    """
    if arguments is None:  # the process is the command's own
        from opskit.collector import collect_seldom

        collect_seldom()
    given = sys.argv[1:] if arguments is None else arguments
    if not _serves_recovery(given):
        return _quickly(given)
    try:
        code = _quickly(given)
    except Exception:  # a module that cannot be loaded
        import traceback

        traceback.print_exc()
        code = 1
    return code if code in (0, _END_OF_ARCHIVE) or code > _TAKEN_FOR_THE_END else _ABORT + code


def _quickly(arguments: "Sequence[str]") -> int:
    """Do without the frame what PostgreSQL starts for every segment."""
    if "wal" not in arguments:
        return _command(arguments)
    from opskit.cli._direct import WalCommand

    command = WalCommand.of(arguments)
    if command is None:
        return _command(arguments)

    def run() -> int:
        code = command.run()
        return _command(arguments) if code is None else code

    if command.verb == "push":
        return run()
    from opskit.cli._recovery import serve

    return serve(command, run)


def _command(arguments: "Sequence[str]") -> int:
    from opskit.cli import (  # noqa: F401  for their commands
        _alarms,
        _audit,
        _commands,
        _copies,
        _metrics,
        _retention,
        _runbooks,
        _schedule,
        _wal,
        _worker,
    )
    from opskit.cli._app import app
    from opskit.cli._run import run

    return run(app, arguments)


def _serves_recovery(arguments: "Sequence[str]") -> bool:
    words = [argument for argument in arguments if not argument.startswith("-")]
    return any(words[n : n + 2] == ["wal", "get"] for n in range(len(words)))
