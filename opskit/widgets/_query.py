"""A question to a running copy: SQL in, a table of texts out."""

from collections.abc import Callable
from html import escape

import ipywidgets

from opskit.errors import OpskitError
from opskit.local_copy import CopyServer, LocalCopy
from opskit.postgres.asking import FirstRows
from opskit.reports.view import table
from opskit.widgets._background import Background
from opskit.widgets._messages import error_html, traceback_text
from opskit.widgets._stack import told

SHOWN = 200
"""So many rows are fetched and shown; a query for millions must not fill the kernel's memory."""


class QueryBox:
    """A field for SQL, the database that it goes to, and what came of it.

    A query runs in a thread, and can be cancelled; it ends with the kernel.
    """

    def __init__(
        self, copy: LocalCopy, clicked: Callable[[Callable[[], None]], Callable[[object], None]]
    ) -> None:
        self._copy = copy
        self.sql = ipywidgets.Textarea(
            description="SQL",
            tooltip="A query to the copy",
            placeholder="SELECT count(*) FROM …",
            rows=3,
        )
        self.database = ipywidgets.Text(
            description="Database", value="postgres", tooltip="The database that is asked"
        )
        self.run = ipywidgets.Button(description="Run query", tooltip="Ask the copy")
        self.run.on_click(clicked(self._press))
        self.output = ipywidgets.HTML()
        self._background: Background[tuple[str, str], FirstRows] = Background(self._ask, self.draw)
        controls = ipywidgets.HBox([self.database, self.run])
        controls.add_class("opskit-actions")
        field = ipywidgets.HBox([self.sql])
        field.add_class("opskit-actions")
        scroll = ipywidgets.Box([self.output], tabbable=True)
        scroll.add_class("opskit-scroll")
        self.widget = ipywidgets.VBox([field, controls, scroll])

    def draw(self) -> None:
        """Show how the query stands."""
        background = self._background
        self.run.description = "Cancel query" if background.is_busy else "Run query"
        if background.error is not None:
            error = told(background.error)
            fault = not isinstance(background.error, OpskitError)
            trace = traceback_text(background.error) if fault else ""
            self.output.value = error_html("That did not work", error, {}, trace)
        elif background.answer is not None:
            self.output.value = rows_html(background.answer)
        elif background.is_busy:
            self.output.value = '<p class="opskit-empty">Asking…</p>'

    def _press(self) -> None:
        sql = self.sql.value.strip()
        if self._background.is_busy:
            self._server().cancel_queries()
        elif sql:
            self._background.ask((sql, self.database.value.strip()))
            self.draw()

    def _ask(self, question: tuple[str, str]) -> FirstRows:
        sql, database = question
        return self._server().first_rows(sql, database, SHOWN)

    def _server(self) -> CopyServer:
        return self._copy.attached()


def rows_html(found: FirstRows) -> str:
    """Rows as a table of texts, with how many there are."""
    if not found.columns:
        return '<p class="opskit-empty">Done; it returned no rows.</p>'
    cells = [["" if value is None else str(value) for value in row] for row in found.rows]
    count = "1 row" if len(cells) == 1 else f"{len(cells):,} rows"
    more = f"The first {count}; there are more." if found.more else f"{count}."
    return f"{table(list(found.columns), cells).html}<p>{escape(more)}</p>"
