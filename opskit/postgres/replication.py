"""The replication protocol, as ``pg_basebackup`` speaks it, on libpq's asynchronous calls.

psycopg has no high-level support for ``BASE_BACKUP``: its first answer is a row, and its COPY data is framed (chapter
"Streaming Replication Protocol" of the PostgreSQL manual). This module knows the commands and their answers; it knows
nothing of tar, files or repositories.
"""

import select
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import psycopg
from psycopg import pq

from opskit.errors import ErrorKind, ServerError
from opskit.model.lsn import Lsn
from opskit.postgres.connection import SERVER_KEEPALIVES, connecting, one_clause
from opskit.postgres.events import (
    ArchiveStarted,
    BackupEnded,
    BackupEvent,
    BackupStarted,
    Keepalive,
    ManifestStarted,
    Silence,
    SystemIdentity,
    TimelineEnded,
    WalData,
    WalEvent,
)
from opskit.postgres.refusals import refusal

_WAIT_SECONDS = 0.25
_NEW_ARCHIVE, _DATA, _PROGRESS, _MANIFEST = b"ndpm"
_WAL, _KEEPALIVE = b"wk"
_WAL_HEADER = struct.Struct(">QQq")
_KEEPALIVE_BODY = struct.Struct(">QqB")
_STATUS = struct.Struct(">cQQQqB")
_UPLOAD_BYTES = 64 << 10
_EPOCH_2000 = 946_684_800


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
        wanted = {"idle_session_timeout": "0", **SERVER_KEEPALIVES}
        given = parameters.get("options", "")
        options = " ".join([given, *(f"-c {key}={value}" for key, value in wanted.items())]).strip()
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

    def upload_manifest(self, manifest: bytes) -> None:
        """Tell the server what the next base backup is to be an increment to; 17 and later.

        Raises
        ------
        ServerError
            `NOT_INCREMENTAL` when it is not the manifest of a backup of this server; another command may follow.
        """
        self._send(b"UPLOAD_MANIFEST")
        self._result(pq.ExecStatus.COPY_IN)
        content = memoryview(manifest)
        try:
            for begin in range(0, len(content), _UPLOAD_BYTES):
                self._pgconn.put_copy_data(content[begin : begin + _UPLOAD_BYTES])
                self._flush()
            self._pgconn.put_copy_end()
        except psycopg.OperationalError as error:
            raise self._gone(str(error)) from None
        self._flush()
        self._agreed(pq.ExecStatus.COMMAND_OK)
        while self._next_result() is not None:
            pass

    def base_backup(
        self, label: str, *, fast_checkpoint: bool, incremental: bool = False
    ) -> Iterator[BackupEvent]:
        """Take a base backup, WAL and manifest included.

        Parameters
        ----------
        incremental
            Only what changed since the backup whose manifest was uploaded before; the server waits until its WAL is
            summarized.

        Yields
        ------
        BackupStarted, then for each tablespace and last for the data directory ArchiveStarted and the archive's bytes,
        then ManifestStarted and the manifest's bytes, then BackupEnded. A `memoryview` of bytes (some 32 KB) is valid
        until the next event is taken.

        Raises
        ------
        ServerError
            The server refused, met a damaged page, or went away; `NOT_INCREMENTAL` before the first event when it can
            send no increment, and another command may then follow.
        """
        self._send(
            b"BASE_BACKUP (LABEL %s, PROGRESS true, CHECKPOINT '%s', WAL true, WAIT false,"
            b" MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C'%s)"
            % (
                _quoted(label),
                b"fast" if fast_checkpoint else b"spread",
                b", INCREMENTAL true" if incremental else b"",
            )
        )
        wanted = pq.ExecStatus.TUPLES_OK
        start = _table(self._agreed(wanted) if incremental else self._result(wanted))
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

    def create_slot(self, name: str) -> None:
        """Make a permanent physical slot that keeps WAL from now on; errors as `create_temporary_slot`."""
        self._rows(b"CREATE_REPLICATION_SLOT %s PHYSICAL RESERVE_WAL" % name.encode())

    def timeline_history(self, timeline: int) -> bytes:
        """The history file of `timeline`, which is not 1."""
        self._send(b"TIMELINE_HISTORY %d" % timeline)
        content = self._result(pq.ExecStatus.TUPLES_OK).get_value(0, 1) or b""
        while self._next_result() is not None:
            pass
        return content

    def wal(self, slot: str, start: Lsn, timeline: int) -> Iterator[WalEvent]:
        """Stream WAL from `start`, which lies on `timeline`, until that timeline ends or the connection does.

        `confirm` tells the server how far it may forget. `WalData` is contiguous; its bytes are valid until the next
        event is taken. Something comes at least four times a second.

        Raises
        ------
        ServerError
            `WAL_REMOVED` when the server does not have the WAL any more; otherwise as `base_backup`.
        """
        self._send(
            b"START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %d"
            % (slot.encode(), str(start).encode(), timeline)
        )
        result = self._next_result()
        if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
            expected = start
            for event in self._streamed():
                if isinstance(event, WalData):
                    if event.start != expected:
                        raise ServerError(
                            f"the server sent WAL from {event.start}, expected {expected}",
                            ErrorKind.SERVER_REFUSED,
                        )
                    expected = Lsn(event.start + len(event.data))
                yield event
            with suppress(
                psycopg.OperationalError
            ):  # no COPY any more: the server ended it with an error
                self._pgconn.put_copy_end()
            self._flush()
            result = self._next_result()
            while result is not None and result.status == pq.ExecStatus.COPY_IN:
                result = self._next_result()
        if result is None or result.status != pq.ExecStatus.TUPLES_OK:
            raise self._refused(result) if result is not None else self._gone("the stream ended")
        [[next_timeline, switched_at]] = _table(result)
        while self._next_result() is not None:
            pass
        yield TimelineEnded(int(next_timeline), Lsn.parse(switched_at))

    def confirm(self, durable: Lsn) -> None:
        """Tell the server that everything before `durable` is safe, so that its slot may move on."""
        now = int((time.time() - _EPOCH_2000) * 1_000_000)
        try:
            self._pgconn.put_copy_data(_STATUS.pack(b"r", durable, durable, durable, now, 0))
        except psycopg.OperationalError as error:
            raise self._gone(str(error)) from None
        self._flush()

    def _streamed(self) -> Iterator[WalEvent]:
        """The messages of a WAL stream, until the server ends it."""
        while True:
            try:
                size, data = self._pgconn.get_copy_data(1)
            except psycopg.OperationalError as error:
                raise self._gone(str(error)) from None
            if size > 0:
                message = memoryview(data)
                if message[0] == _WAL:
                    start, _, sent = _WAL_HEADER.unpack_from(message, 1)
                    yield WalData(Lsn(start), _server_clock(sent), message[1 + _WAL_HEADER.size :])
                elif message[0] == _KEEPALIVE:
                    end, sent, answer = _KEEPALIVE_BODY.unpack_from(message, 1)
                    yield Keepalive(Lsn(end), _server_clock(sent), bool(answer))
                continue
            if size < 0:
                return
            ready = self._poll.poll(_WAIT_SECONDS * 1000)
            self._check()
            if not ready:
                yield Silence()
                continue
            try:
                self._pgconn.consume_input()
            except psycopg.OperationalError as error:
                raise self._gone(str(error)) from None

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
        try:
            return _table(self._result(pq.ExecStatus.TUPLES_OK))
        finally:  # a refusal, too, is followed by its end; the next command has to wait for that
            while self._next_result() is not None:
                pass

    def _send(self, command: bytes) -> None:
        try:
            self._pgconn.send_query(command)
        except psycopg.OperationalError as error:
            raise self._gone(str(error)) from None
        self._flush()

    def _flush(self) -> None:
        try:
            while self._pgconn.flush():
                self._check()
                socket = [self._pgconn.socket]
                if select.select(socket, socket, [], _WAIT_SECONDS)[0]:
                    self._pgconn.consume_input()
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

    def _agreed(self, expected: pq.ExecStatus) -> "pq.abc.PGresult":
        """As `_result`, of a command that only increments need."""
        try:
            return self._result(expected)
        except ServerError as error:
            if error.kind is not ErrorKind.SERVER_REFUSED:
                raise
            while self._next_result() is not None:
                pass
            hint = error.hint or "Take a full backup with --full to build on."
            raise ServerError(error.message, ErrorKind.NOT_INCREMENTAL, hint) from None

    def _refused(self, result: "pq.abc.PGresult") -> ServerError:
        def field(which: pq.DiagnosticField) -> str:
            return (result.error_field(which) or b"").decode(errors="replace")

        state = field(pq.DiagnosticField.SQLSTATE)
        message = field(pq.DiagnosticField.MESSAGE_PRIMARY)
        if not state or state.startswith("57P"):
            return self._gone(message or "the connection was closed")
        return refusal(state, message, field(pq.DiagnosticField.MESSAGE_HINT))

    def _gone(self, text: str) -> ServerError:
        return ServerError(
            f"the server went away: {one_clause(text)}",
            ErrorKind.SERVER_GONE,
            "Look at the server's log; start again when it is back.",
        )


def _table(result: "pq.abc.PGresult") -> list[list[str]]:
    return [
        [
            (result.get_value(row, column) or b"").decode(errors="surrogateescape")
            for column in range(result.nfields)
        ]
        for row in range(result.ntuples)
    ]


def _server_clock(microseconds: int) -> datetime:
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def _quoted(text: str) -> bytes:
    return b"'%s'" % text.replace("'", "''").encode()
