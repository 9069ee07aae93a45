"""The postmaster as other processes see it: its pid file, its socket's directory, its port.

Knows what PostgreSQL writes into ``postmaster.pid`` (its ``utils/pidfile.h``). Starts nothing.
"""

import os
import secrets
import signal
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from opskit.errors import ErrorKind, ServerError
from opskit.postgres.account import Account

SOCKET_BYTES = 107  # sun_path of Linux, less the closing zero
_SOCKET_PREFIX = "opskit-"
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_POLL = 0.02


def running_server(data_directory: Path) -> int | None:
    """The process id of the server of `data_directory`; `None` when none runs.

    A process id that was given to another process since is not taken for the server.

    Raises
    ------
    ServerError
        The directory belongs to somebody else, so that there is no telling.
    """
    lines = pid_file_lines(data_directory)
    pid = int(lines[0]) if lines and lines[0].isdecimal() else None
    return pid if pid is not None and _is_server_of(pid, data_directory) else None


def stop_server(data_directory: Path, mode: str = "fast", timeout: float = 60) -> bool:
    """Stop the server of `data_directory`, whoever started it; whether one ran.

    When the shutdown `mode` takes longer than `timeout` seconds, the server is stopped immediately: it will recover
    from its WAL at its next start.

    Raises
    ------
    ServerError
        It belongs to somebody else, or does not end.
    """
    lines = pid_file_lines(data_directory)
    pid = running_server(data_directory)
    if pid is None:
        return False
    for sent in (_SIGNALS[mode], signal.SIGQUIT):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            break
        except PermissionError:
            raise _not_ours(data_directory) from None
        if _has_ended(pid, data_directory, timeout):
            break
    else:
        raise ServerError(
            f"the server of {str(data_directory)!r}, process {pid}, does not end",
            ErrorKind.SERVER_RUNNING,
            "Look for what keeps its processes in the kernel, a network file system for example.",
        )
    if len(lines) >= 5 and lines[4]:
        directory = Path(lines[4])
        if directory.name.startswith(_SOCKET_PREFIX):
            remove_socket_directory(directory)
    return True


def free_port() -> int:
    """A port that nobody listens on, below the range that the kernel gives to outgoing connections."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
        ephemeral = int(text.split()[0])
    except (OSError, ValueError):
        ephemeral = 32768
    lowest = 10240 if ephemeral > 12288 else 1024
    for _ in range(1000):
        # Not the seeded generator of a test: two processes would choose the same ports.
        port = lowest + secrets.randbelow(max(min(ephemeral, 32768) - lowest, 1024))
        if Path(f"/tmp/.s.PGSQL.{port}").exists():
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ServerError(
        f"there is no free port between {lowest} and {ephemeral}",
        ErrorKind.SERVER_NOT_STARTED,
        "Stop servers that are not needed.",
    )


def pid_file_lines(data_directory: Path) -> list[str]:
    """The lines of ``postmaster.pid``; none when there is no such file."""
    try:
        return (data_directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        raise _not_ours(data_directory) from None


def _is_server_of(pid: int, data_directory: Path) -> bool:
    """A postmaster's working directory is its data directory; a process that ended but was not reaped has none."""
    process = Path("/proc") / str(pid)
    try:
        return (process / "comm").read_text().strip() == "postgres" and (process / "cwd").samefile(
            data_directory
        )
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return False  # somebody else's process, while the pid file was readable: not its writer's


def _has_ended(pid: int, data_directory: Path, timeout: float) -> bool:
    end = time.monotonic() + timeout
    while _is_server_of(pid, data_directory):
        if time.monotonic() > end:
            return False
        time.sleep(_POLL)
    return True


def _not_ours(data_directory: Path) -> ServerError:
    return ServerError(
        f"the server of {str(data_directory)!r} belongs to another account",
        ErrorKind.SERVER_REFUSED,
        "Run opskit as that account, or as root.",
    )


def make_socket_directory(account: Account | None) -> Path:
    """A private directory with a short name, whatever TMPDIR says: it must fit into a socket's address."""
    directory = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    return directory


def remove_socket_directory(directory: Path | None) -> None:
    """Remove it with what a killed server left in it; it is gone already when another process stopped the server."""
    if directory is None:
        return
    with suppress(OSError):
        for left_behind in directory.glob(".s.PGSQL.*"):
            left_behind.unlink()
        directory.rmdir()
