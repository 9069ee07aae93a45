"""The rows of operations: written by the process that works, read by everybody.

Knows the table and the rule of the heartbeat; does not know what an operation does. Rows never leave this package:
what comes out is `opskit.model.operation.Operation`.
"""

import logging
import os
import socket
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from opskit.catalog import _audit
from opskit.catalog._attempts import read_attempts
from opskit.catalog._identity import process_identity, process_is_gone
from opskit.catalog._open import failures, open_engine, shown
from opskit.catalog._tables import operations
from opskit.errors import ConflictError, ErrorKind, InputError, NotFoundError
from opskit.model.audit import AuditEvent, Head, Signer, StoredEntry
from opskit.model.operation import Operation, OperationKind, OperationStatus, Progress
from opskit.model.schedule import Attempt

HEARTBEAT_LIMIT = timedelta(seconds=60)
_log = logging.getLogger(__name__)
_STATUSES_WRITTEN = frozenset(OperationStatus) - {OperationStatus.DIED}


class Catalog:
    """The operations of one catalog database. Safe to use from several threads, and by several processes at once.

    Every method raises `StoreError` (``catalog failed``), without secrets, when the database fails.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] | None = None,
        signer: Signer | None = None,
    ) -> None:
        self._engine = open_engine(url)
        self._clock = clock
        self._signer = signer
        self._closed = weakref.finalize(self, self._engine.dispose)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime] | None = None,
        signer: Signer | None = None,
    ) -> "Catalog":
        """The catalog at `url`, created and brought to the newest migration.

        Parameters
        ----------
        url
            ``sqlite:////absolute/file`` or ``postgresql+psycopg://host/database``.
        clock
            The time, aware; by default the system's for SQLite and the server's for PostgreSQL, so that hosts whose
            clocks differ agree about a heartbeat's age.
        signer
            Signs the entries of the audit log; without one they are not signed.

        Raises
        ------
        InputError
            The URL is none that a catalog can have.
        StoreError
            The database cannot be reached, is none, or was migrated by a newer opskit.
        """
        return cls(url, clock=clock, signer=signer)

    @property
    def url(self) -> str:
        """Where the catalog is, for people; without secrets."""
        return shown(self._engine.url)

    def close(self) -> None:
        """Close the connections; the catalog opens new ones if it is used again."""
        self._engine.dispose()

    def start(
        self,
        *,
        kind: OperationKind,
        cluster: str,
        parameters: Mapping[str, str],
        actor: str,
        jupyter_user: str | None = None,
        id: str | None = None,  # noqa: A002  the model's own name
    ) -> Operation:
        """Write the row of an operation that this process begins now.

        Raises
        ------
        ConflictError
            There is an operation with this `id` already.
        """
        pid = os.getpid()
        with self._writing() as connection:
            now = self._now(connection)
            values = {
                "id": id or uuid.uuid4().hex,
                "kind": str(kind),
                "cluster": cluster,
                "status": str(OperationStatus.RUNNING),
                "host": socket.gethostname(),
                "pid": pid,
                "process": process_identity(pid),
                "actor": _clean(actor),
                "jupyter_user": jupyter_user and _clean(jupyter_user),
                "is_entered": False,
                "parameters": dict(parameters),
                "started_at": now,
                "heartbeat_at": now,
                "phase": "starting",
                "bytes_done": 0,
            }
            try:
                row = connection.execute(insert(operations).values(values).returning(operations))
            except IntegrityError:
                raise ConflictError(
                    f"there is an operation {values['id']!r} already", ErrorKind.OBJECT_EXISTS
                ) from None
            return _operation(row.one(), now)

    def update(
        self,
        id: str,  # noqa: A002
        progress: Progress,
        backup: str | None = None,
    ) -> bool:
        """Write the progress and the heartbeat of a running operation.

        Returns
        -------
        bool
            Whether somebody asked for the end.
        """
        with self._writing() as connection:
            values: dict[str, Any] = {
                "heartbeat_at": self._now(connection),
                "phase": _clean(progress.phase),
                "bytes_done": progress.bytes_done,
                "bytes_expected": progress.bytes_expected,
            }
            if backup is not None:
                values["backup"] = backup
            requested = connection.execute(
                update(operations)
                .where(operations.c.id == id, operations.c.status == OperationStatus.RUNNING)
                .values(values)
                .returning(operations.c.cancel_requested_at)
            ).first()
        return requested is not None and requested[0] is not None

    def note(self, id: str, result: Mapping[str, object]) -> None:  # noqa: A002
        """Write what a running operation is about to do that its entry in the audit log must tell, however it ends."""
        with self._writing() as connection:
            connection.execute(
                update(operations)
                .where(operations.c.id == id, operations.c.status == OperationStatus.RUNNING)
                .values(result=dict(result))
            )

    def finish(
        self,
        id: str,  # noqa: A002
        status: OperationStatus,
        *,
        backup: str | None = None,
        result: Mapping[str, object] | None = None,
        error: Mapping[str, str] | None = None,
    ) -> None:
        """Write how a running operation ended, and enter it in the audit log; an end that is written stays as it is.

        When the key that signs cannot be used, the end is written, and entered by whoever next can.
        """
        if status not in _STATUSES_WRITTEN or status is OperationStatus.RUNNING:
            raise ValueError(f"an operation cannot end as {status!r}")
        with self._writing() as connection:
            now = self._now(connection)
            values: dict[str, Any] = {"status": str(status), "heartbeat_at": now, "ended_at": now}
            values["is_entered"] = False  # nor is what one came to that was taken for dead
            if result is not None:
                values["result"] = dict(result)
            values["error"] = None if error is None else dict(error)
            if backup is not None:
                values["backup"] = backup
            connection.execute(
                update(operations)
                .where(operations.c.id == id, operations.c.status == OperationStatus.RUNNING)
                .values(values)
            )
        self._enter_ended()

    def request_cancel(self, id: str) -> None:  # noqa: A002
        """Ask a running operation for its end; one that has ended is left alone.

        Raises
        ------
        NotFoundError
            There is no operation with this `id`.
        """
        with self._writing() as connection:
            now = self._now(connection)
            connection.execute(
                update(operations)
                .where(
                    operations.c.id == id,
                    operations.c.status == OperationStatus.RUNNING,
                    operations.c.cancel_requested_at.is_(None),
                )
                .values(cancel_requested_at=now)
            )
        self.get(id)

    def get(self, id: str) -> Operation:  # noqa: A002
        """One operation, as it stands now.

        Raises
        ------
        NotFoundError
            There is no operation with this `id`.
        """
        found = self._read(select(operations).where(operations.c.id == id))
        if not found:
            raise NotFoundError(
                f"there is no operation {id!r} in the catalog {self.url!r}",
                ErrorKind.OPERATION_NOT_FOUND,
            )
        return found[0]

    def operations(
        self,
        *,
        cluster: str | None = None,
        kind: OperationKind | None = None,
        limit: int | None = None,
    ) -> list[Operation]:
        """The operations as they stand now, the last begun first."""
        query = select(operations).order_by(operations.c.number.desc()).limit(limit)
        if cluster is not None:
            query = query.where(operations.c.cluster == cluster)
        if kind is not None:
            query = query.where(operations.c.kind == str(kind))
        return self._read(query)

    def attempts(self, since: Mapping[str, datetime]) -> dict[str, list[Attempt]]:
        """What was tried of the scheduled backups of many clusters, since a time for each; the oldest first.

        One query, on PostgreSQL only: what many hosts share.
        """
        with self._reading() as connection:
            return read_attempts(connection, since, HEARTBEAT_LIMIT)

    def enter(self, event: AuditEvent) -> None:
        """Append an entry to the audit log, after those of the operations that ended and are not entered yet.

        A report that is entered already is not entered again.

        Raises
        ------
        InputError
            The key that signs cannot be used; nothing was written.
        """
        with self._appending() as connection:
            now = self._now(connection)
            _audit.enter_ended(connection, now, self._signer)
            if event.report is None or not _audit.is_entered(connection, event.report):
                _audit.append(connection, now, event, self._signer)

    def audit_head(self) -> Head:
        """The last entry of the audit log."""
        with self._reading() as connection:
            return _audit.read_head(connection)

    def audit_entries(self) -> list[StoredEntry]:
        """The audit log as it is stored, to be verified or shown."""
        with self._reading() as connection:
            return _audit.read_entries(connection)

    def not_entered(self) -> list[str]:
        """The ids of the operations that have ended, or certainly died, and are not in the audit log yet."""
        with self._reading() as connection:
            return [row.id for row in _audit.ended_operations(connection, self._now(connection))]

    def _enter_ended(self) -> None:
        try:
            with self._appending() as connection:
                _audit.enter_ended(connection, self._now(connection), self._signer)
        except InputError as error:
            _log.warning("operations that ended are not entered in the audit log yet: %s", error)

    def _read(self, query: Select[Any]) -> list[Operation]:
        with self._reading() as connection:
            rows = connection.execute(query).all()
            now = self._now(
                connection
            )  # after the rows: a heartbeat in between must not look like the future
        return [_operation(row, now) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        reader = self._engine.execution_options(only_reads=True)
        with failures(self._engine), reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with failures(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _appending(self) -> Iterator[Connection]:
        """A transaction on the audit log that nothing undoes: a report that is filed next tells of its entries."""
        engine = self._engine.execution_options(durable=True)
        with failures(self._engine), engine.begin() as connection:
            _audit.lock(connection)
            yield connection

    def _now(self, connection: Connection) -> datetime:
        if self._clock is not None:
            return self._clock().astimezone(UTC)
        if connection.dialect.name == "sqlite":
            return datetime.now(UTC)
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)


def _operation(row: Row[Any], now: datetime) -> Operation:
    values = dict(row._mapping)
    progress = Progress(
        phase=values.pop("phase"),
        bytes_done=values.pop("bytes_done"),
        bytes_expected=values.pop("bytes_expected"),
    )
    status = OperationStatus(values.pop("status"))
    process = values.pop("process")
    if status is OperationStatus.RUNNING and (
        # also ahead of now: the clock went back, and a living process would have written since
        abs(now - values["heartbeat_at"]) > HEARTBEAT_LIMIT
        or process_is_gone(values["pid"], process)
    ):
        status = OperationStatus.DIED
    del values["number"], values["is_entered"]
    kind = OperationKind(values.pop("kind"))
    return Operation(**values, kind=kind, status=status, progress=progress)


def _clean(text: str) -> str:
    """`text` without what a database refuses to keep: NUL, and surrogates of undecodable bytes."""
    return text.replace("\0", "").encode(errors="replace").decode()
