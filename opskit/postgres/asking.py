"""Questions whose answer may be larger than who asks: only the first rows are fetched.

psycopg loads with the first question: a restore that starts nothing has none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opskit.errors import ErrorKind, ServerError

if TYPE_CHECKING:
    import psycopg

_NAME = "opskit query"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRows:
    """The first rows that a query returned, and whether it had more."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def first_rows(conninfo: str, sql: str, limit: int) -> FirstRows:
    """Run one statement, and return at most `limit` rows of it; memory is taken for no more.

    Raises
    ------
    ServerError
        The server did not answer, or refused the statement.
    """
    import psycopg

    rows: list[tuple[Any, ...]] = []
    try:
        with (
            psycopg.connect(
                conninfo,
                hostaddr="",  # PGHOSTADDR would win over the socket
                options="",
                client_encoding="utf8",
                autocommit=True,
                application_name=_NAME,
            ) as connection,
            connection.cursor() as cursor,
        ):
            for found in cursor.stream(sql.encode()):
                if len(rows) == limit:
                    connection.cancel()
                    return FirstRows(columns=_columns(cursor), rows=rows, more=True)
                rows.append(found)
            return FirstRows(columns=_columns(cursor), rows=rows, more=False)
    except psycopg.Error as error:
        if isinstance(error, psycopg.ProgrammingError) and "didn't produce" in str(error):
            return FirstRows(columns=(), rows=[], more=False)  # it was done, and returns no rows
        said = error.diag.message_primary or str(error).strip().partition("\n")[0]
        refused = error.sqlstate is not None
        position = error.diag.statement_position
        raise ServerError(
            f"the copy's server {'refused' if refused else 'failed'} the query: {said}"
            + (f" (at character {position})" if position else ""),
            ErrorKind.SERVER_REFUSED if refused else ErrorKind.SERVER_GONE,
            error.diag.message_hint or ("" if refused else "See whether it still runs."),
        ) from None


def cancel_queries(conninfo: str) -> None:
    """Cancel what `first_rows` asks a server at the moment, whichever process asks.

    Raises
    ------
    ServerError
        The server did not answer.
    """
    import psycopg

    try:
        with psycopg.connect(conninfo, hostaddr="", options="", autocommit=True) as connection:
            connection.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                [_NAME],
            )
    except psycopg.Error as error:
        raise ServerError(
            f"the query cannot be cancelled: {str(error).strip()}", ErrorKind.SERVER_GONE
        ) from None


def _columns(cursor: "psycopg.Cursor[tuple[Any, ...]]") -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())
