"""``opskit wal get`` for a server that recovers: a segment that has been fetched ahead is there at once.

What lies in the spool is handed over before anything else is loaded, which takes several times as long. Otherwise the
call fetches as ever, while a forked child waits for its success, and then fetches what will be asked for next.
"""

import os

from opskit.cli._direct import WalCommand
from opskit.operations.wal_spool import SpoolLead, spool_for

TYPE_CHECKING = False  # typing's would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Callable

_HISTORY = ".history"
_GO = b"g"


def serve(command: WalCommand, fetch: "Callable[[], int]") -> int:
    """Give PostgreSQL the file that it asks for, by `fetch` where it is not there already; the exit code."""
    name, path = command.operands
    spool = spool_for(path, command.asker())
    if spool is None:
        return fetch()
    waiting = None
    try:
        segment_bytes = spool.take(name, path)
        if segment_bytes:
            if spool.is_low(segment_bytes):
                _tell(_forked(spool.lead(name, segment_bytes), command), go=True)
            return 0
        # Nothing of what is there will be asked for again; and a recovery that ends asks for a history file.
        spool.remove()
        if not name.endswith(_HISTORY):
            waiting = _forked(spool.lead(name), command)
    except OSError:  # fetching ahead is a favour
        return fetch()
    code = fetch()
    _tell(waiting, go=code == 0)
    return code


def _forked(lead: SpoolLead | None, command: WalCommand) -> int | None:
    """Fork the child that fetches ahead; what to tell it by. `None` when there is one already.

    It stays in the process group of PostgreSQL's startup process, which a server that is stopped ends as a whole.
    """
    if lead is None:
        return None
    told, tell = os.pipe()
    if os.fork():
        lead.close()
        os.close(told)
        return tell
    try:
        _end_well()
        _leave_files(told, *lead.descriptors)
        if os.read(told, 1) == _GO:
            command.fetch_ahead(lead)
        else:
            lead.remove()
    finally:
        # Nothing of the parent's must be run twice. And where PostgreSQL is a container's first process, orphans become
        # its children, and it takes any other code for a crash of its own.
        os._exit(0)


def _end_well() -> None:
    """End with 0 by the signals, too, that PostgreSQL sends."""
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: os._exit(0))


def _leave_files(*kept: int) -> None:
    """Close what a child has inherited, but for `kept`: PostgreSQL's log waits for who holds it."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    first = 3
    for descriptor in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, descriptor)
        first = descriptor + 1


def _tell(child: int | None, *, go: bool) -> None:
    if child is not None:
        if go:
            os.write(child, _GO)
        os.close(child)
