"""The replication protocol, as ``pg_basebackup`` speaks it, on libpq's asynchronous calls.

psycopg has no high-level support for ``BASE_BACKUP``: its first answer is a row, and its COPY data is framed (chapter
"Streaming Replication Protocol" of the PostgreSQL manual). This module knows the commands and their answers; it knows
nothing of tar, files or repositories.
"""

import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import pq

from opskit.errors import ErrorKind, ServerError
from opskit.model.lsn import Lsn
from opskit.postgres.connection import connecting

_WAIT_SECONDS = 0.25
_NEW_ARCHIVE, _DATA, _PROGRESS, _MANIFEST = b"ndpm"


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """The answer to ``IDENTIFY_SYSTEM``."""

    system_identifier: str
    timeline: int
    flushed_lsn: Lsn


@dataclass(frozen=True, slots=True)
class BackupStarted:
    """The backup's start, and its tablespaces: (oid, location, estimated bytes), the main one as (`None`, "", …)."""

    start_lsn: Lsn
    timeline: int
    archives: tuple[tuple[int | None, str, int], ...]


@dataclass(frozen=True, slots=True)
class ArchiveStarted:
    """A tar archive begins: ``<oid>.tar`` of a tablespace, or ``base.tar``."""

    name: str
    location: str


@dataclass(frozen=True, slots=True)
class ManifestStarted:
    """The backup manifest begins."""


@dataclass(frozen=True, slots=True)
class BackupEnded:
    """The backup is complete on the server's side."""

    stop_lsn: Lsn
    timeline: int


BackupEvent = BackupStarted | ArchiveStarted | memoryview | ManifestStarted | BackupEnded


class ReplicationConnection:
    """A connection to a walsender, for one command at a time.

    Parameters
    ----------
    parameters
        libpq's, as `opskit.postgres.connection.Connection.parameters` gives them.
    check
        Called about four times a second while waiting, and between messages; what it raises ends the command.
    """

    def __init__(self, parameters: Mapping[str, Any], check: Callable[[], None]) -> None:
        # A walsender that only holds a slot is idle; the server must not end it for that.
        options = f"{parameters.get('options', '')} -c idle_session_timeout=0".strip()
        with connecting():
            self._connection = psycopg.connect(
                autocommit=True, **{**parameters, "replication": "true", "options": options}
            )
        self._pgconn = self._connection.pgconn
        self._pgconn.nonblocking = 1
        self._check = check
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection: the server ends the command and drops the temporary slot."""
        self._connection.close()

    def identify_system(self) -> SystemIdentity:
        """Who the server is, which timeline it is on, and up to where its WAL is flushed."""
        [row] = self._rows(b"IDENTIFY_SYSTEM")
        return SystemIdentity(row[0], int(row[1]), Lsn.parse(row[2]))

    def create_temporary_slot(self, name: str) -> None:
        """Make a physical slot that keeps WAL from now on and goes with this connection.

        Raises
        ------
        ServerError
            `NO_SLOT` when all slots are taken, `SERVER_REFUSED` otherwise; a slot of that name: `BACKUP_RUNNING`.
        """
        self._rows(b"CREATE_REPLICATION_SLOT %s TEMPORARY PHYSICAL RESERVE_WAL" % name.encode())

    def base_backup(self, label: str, *, fast_checkpoint: bool) -> Iterator[BackupEvent]:
        """Take a full base backup, WAL and manifest included.

        Yields
        ------
        BackupStarted, then for each tablespace and last for the data directory ArchiveStarted and the archive's bytes,
        then ManifestStarted and the manifest's bytes, then BackupEnded. A `memoryview` of bytes (some 32 KB) is valid
        until the next event is taken.

        Raises
        ------
        ServerError
            The server refused, met a damaged page, or went away.
        """
        self._send(
            b"BASE_BACKUP (LABEL %s, PROGRESS true, CHECKPOINT '%s', WAL true, WAIT false,"
            b" MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
            % (_quoted(label), b"fast" if fast_checkpoint else b"spread")
        )
        start = _table(self._result(pq.ExecStatus.TUPLES_OK))
        spaces = _table(self._result(pq.ExecStatus.TUPLES_OK))
        yield BackupStarted(
            Lsn.parse(start[0][0]),
            int(start[0][1]),
            tuple(
                (int(oid) if oid else None, location or "", int(kilobytes or 0) * 1024)
                for oid, location, kilobytes in spaces
            ),
        )
        self._result(pq.ExecStatus.COPY_OUT)
        yield from self._copied()
        end = _table(self._result(pq.ExecStatus.TUPLES_OK))
        self._result(pq.ExecStatus.COMMAND_OK)
        yield BackupEnded(Lsn.parse(end[0][0]), int(end[0][1]))

    def _copied(self) -> Iterator[BackupEvent]:
        """The messages of the COPY, read as they arrive without ever blocking in libpq."""
        get, consume, poll = (
            self._pgconn.get_copy_data,
            self._pgconn.consume_input,
            self._poll.poll,
        )
        checked = time.monotonic()
        while True:
            size, data = get(1)
            if size > 0:
                message = memoryview(data)
                kind = message[0]
                if kind == _DATA:
                    yield message[1:]
                elif kind == _NEW_ARCHIVE:
                    name, location, _ = bytes(message[1:]).split(b"\0")
                    yield ArchiveStarted(name.decode(), location.decode(errors="surrogateescape"))
                elif kind == _MANIFEST:
                    yield ManifestStarted()
                continue  # _PROGRESS: opskit counts the bytes itself
            if size < 0:
                return
            poll(_WAIT_SECONDS * 1000)
            if time.monotonic() - checked >= _WAIT_SECONDS:
                self._check()
                checked = time.monotonic()
            try:
                consume()
            except psycopg.OperationalError as error:
                raise self._gone(str(error)) from None

    def _rows(self, command: bytes) -> list[list[str]]:
        self._send(command)
        rows = _table(self._result(pq.ExecStatus.TUPLES_OK))
        while self._next_result() is not None:
            pass
        return rows

    def _send(self, command: bytes) -> None:
        try:
            self._pgconn.send_query(command)
            while self._pgconn.flush():
                self._check()
        except psycopg.OperationalError as error:
            raise self._gone(str(error)) from None

    def _next_result(self) -> "pq.abc.PGresult | None":
        try:
            while self._pgconn.is_busy():
                self._poll.poll(_WAIT_SECONDS * 1000)
                self._check()
                self._pgconn.consume_input()
            return self._pgconn.get_result()
        except psycopg.OperationalError as error:
            raise self._gone(str(error)) from None

    def _result(self, expected: pq.ExecStatus) -> "pq.abc.PGresult":
        result = self._next_result()
        if result is not None and result.status == expected:
            return result
        if result is None:
            raise self._gone("the answer ended early")
        raise self._refused(result)

    def _refused(self, result: "pq.abc.PGresult") -> ServerError:
        def field(which: pq.DiagnosticField) -> str:
            return (result.error_field(which) or b"").decode(errors="replace")

        state = field(pq.DiagnosticField.SQLSTATE)
        message = field(pq.DiagnosticField.MESSAGE_PRIMARY)
        if not state or state.startswith("57P"):
            return self._gone(message or "the connection was closed")
        kind, hint = _REFUSALS.get(state, (ErrorKind.SERVER_REFUSED, ""))
        return ServerError(
            f"the server refused: {message}", kind, hint or field(pq.DiagnosticField.MESSAGE_HINT)
        )

    def _gone(self, text: str) -> ServerError:
        lines = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        return ServerError(
            f"the server went away: {lines or 'the connection was closed'}",
            ErrorKind.SERVER_GONE,
            "Look at the server's log; start again when it is back.",
        )


_REFUSALS = {
    "42710": (  # duplicate_object: the slot's name
        ErrorKind.BACKUP_RUNNING,
        "Wait until the other backup of this cluster has ended, or cancel it.",
    ),
    "53400": (  # configuration_limit_exceeded: all replication slots are in use
        ErrorKind.NO_SLOT,
        "Raise max_replication_slots, or drop a slot that nobody needs (pg_replication_slots).",
    ),
    "42501": (ErrorKind.REPLICATION_NOT_ALLOWED, "As a superuser: ALTER ROLE … REPLICATION."),
    "XX001": (  # data_corrupted: page checksums
        ErrorKind.SERVER_REFUSED,
        "The cluster has damaged pages, named in the server's log: find out which relations, and keep earlier backups.",
    ),
    "54000": (  # program_limit_exceeded: a name or link of more than 99 bytes
        ErrorKind.SERVER_REFUSED,
        "The server's tar format has 99 bytes for a link: move the tablespace to a place with a shorter path.",
    ),
    "58P01": (ErrorKind.SERVER_REFUSED, "The server lacks a file; its log tells which."),
}


def _table(result: "pq.abc.PGresult") -> list[list[str]]:
    return [
        [
            (result.get_value(row, column) or b"").decode(errors="surrogateescape")
            for column in range(result.nfields)
        ]
        for row in range(result.ntuples)
    ]


def _quoted(text: str) -> bytes:
    return b"'%s'" % text.replace("'", "''").encode()
