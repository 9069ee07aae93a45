"""The table of a panel: thousands of rows, to be sorted, filtered, paged and selected, by keyboard as well.

It is itables' widget (DataTables) with three things added, by the script beside this module: new rows keep what the
person sorted, filtered, turned to and selected; rows are selected by keys; and screen readers are told.
"""

import json
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import pandas as pd
import traitlets
from itables import JavascriptFunction
from itables.widget import ITable

from opskit.reports.cells import Column, ColumnKind, columns_of

PAGE = 10


class _Rows(ITable):
    """itables' widget without its data, which `_rows` brings: new rows leave the table as it is."""

    _esm: Any = files(__package__).joinpath("table.js").read_text(encoding="utf-8")
    _css: Any = (
        f"{ITable._css}\n{files(__package__).joinpath('table.css').read_text(encoding='utf-8')}"
    )
    _itables = traitlets.Unicode(str(ITable._esm)).tag(sync=True)
    _label = traitlets.Unicode().tag(sync=True)
    _rows = traitlets.Unicode('{"keys": [], "data": []}').tag(
        sync=True
    )  # ipywidgets looks into lists, cell by cell
    _chosen: Any = traitlets.List(traitlets.Unicode()).tag(sync=True)


class Table:
    """A DataFrame in a panel; `widget` is what is displayed.

    Sizes read ``1.5 GB``, times are in UTC; both are sorted by what they are, not by how they read.

    Parameters
    ----------
    frame
        The rows, in the order they are shown in at first. Columns whose names end in ``_bytes`` are sizes.
    key
        The column that names a row; rows without a value there cannot be selected.
    label
        What the table is called, for screen readers.
    empty
        What it says when there is no row.
    several
        Whether more than one row can be selected at a time.
    """

    def __init__(
        self, frame: pd.DataFrame, *, key: str, label: str, empty: str, several: bool = False
    ) -> None:
        self._key = key
        self._columns = columns_of(frame)
        self._keys: set[str] = set()
        self._told: list[Callable[[], None]] = []
        self.widget = _Rows(
            pd.DataFrame(columns=[*(c.title for c in self._columns), *_ranks(self._columns)]),
            maxBytes=0,
            classes="opskit-table",
            style="width:100%",
            pageLength=PAGE,
            autoWidth=False,
            text_in_header_can_be_selected=False,
            select=_selection(several),
            columnDefs=_definitions(self._columns),
            language=_language(empty),
            layout=_LAYOUT,
            drawCallback=JavascriptFunction(_READY),
        )
        self.widget._label = label
        self.widget.observe(self._tell, "_chosen")
        self.show(frame)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The keys of the selected rows."""
        return tuple(self.widget._chosen)

    @chosen.setter
    def chosen(self, keys: Sequence[str]) -> None:
        self.widget._chosen = [key for key in keys if key in self._keys]

    def show(self, frame: pd.DataFrame) -> None:
        """Show other rows of the same columns; order, filter, page and selection stay, where the rows still exist."""
        keys = ["" if pd.isna(value) else str(value) for value in frame[self._key]]
        shown = [[escape(text) for text in column.shown(frame)] for column in self._columns]
        ranked = [column.ranked(frame) for column in self._columns if column.is_ranked]
        data = [list(row) for row in zip(*shown, *ranked, strict=True)]
        self._keys = {key for key in keys if key}
        with self.widget.hold_sync():
            self.widget._rows = json.dumps({"keys": keys, "data": data}, ensure_ascii=False)
            self.widget._chosen = [key for key in self.widget._chosen if key in self._keys]

    def on_choose(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever `chosen` changes."""
        self._told.append(callback)

    def close(self) -> None:
        """Take it from the screen."""
        self.widget.close()

    def _tell(self, _: object) -> None:
        for callback in self._told:
            callback()


_READY = "function () { this.api().table().node().api = this.api(); }"  # where table.js finds it
_LAYOUT: dict[str, Any] = {
    "topStart": "search",
    "topEnd": "info",
    "bottomStart": "pageLength",
    "bottomEnd": "paging",
}


def _ranks(columns: Sequence[Column]) -> list[str]:
    return [f"order of {column.title}" for column in columns if column.is_ranked]


def _definitions(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Texts are sorted by invisible columns of numbers that stand behind them."""
    ranked = [at for at, column in enumerate(columns) if column.is_ranked]
    own = [
        {"targets": at, "orderData": len(columns) + rank, "className": "opskit-number"}
        for rank, at in enumerate(ranked)
    ]
    hidden = list(range(len(columns), len(columns) + len(ranked)))
    behind = {"targets": hidden, "visible": False, "searchable": False, "type": "num"}
    texts = [at for at in range(len(columns)) if at not in ranked]
    wide = [at for at in texts if at == len(columns) - 1 and columns[at].kind is ColumnKind.TEXT]
    narrow = [at for at in texts if at not in wide]  # a word that is broken is no word
    return [
        *own,
        {"targets": texts, "type": "string"},
        {"targets": narrow, "className": "opskit-narrow"},
        *([{"targets": wide, "className": "opskit-wide"}] if wide else []),
        *([behind] if hidden else []),
    ]


def _selection(several: bool) -> dict[str, Any]:
    return {"style": "os" if several else "single", "info": False}


def _language(empty: str) -> dict[str, str]:
    return {
        "search": "Filter",
        "info": "_START_ to _END_ of _TOTAL_",
        "infoEmpty": "none",
        "infoFiltered": "(of _MAX_)",
        "lengthMenu": "_MENU_ a page",
        "emptyTable": escape(empty),
        "zeroRecords": "Nothing matches the filter.",
    }
