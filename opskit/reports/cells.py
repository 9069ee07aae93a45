"""The columns of a DataFrame as people read them: what they are called, what stands in a cell, and what it sorts by."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from opskit.reports.format import format_bytes, format_duration

_UNITS = ("_at", "_bytes")


class ColumnKind(StrEnum):
    """How the values of a column are written."""

    TEXT = "text"
    TIME = "time"
    SIZE = "size"
    DURATION = "duration"
    NUMBER = "number"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: `name` in the DataFrame, `title` for people, times with their zone."""

    name: str
    title: str
    kind: ColumnKind

    @property
    def is_number(self) -> bool:
        """Whether its values are set flush right."""
        return self.kind in (ColumnKind.SIZE, ColumnKind.DURATION, ColumnKind.NUMBER)

    @property
    def is_ranked(self) -> bool:
        """Whether its texts would sort differently from its values."""
        return self.is_number

    def shown(self, frame: pd.DataFrame) -> list[str]:
        """What stands in its cells; nothing where a value is missing."""
        if self.kind is ColumnKind.TIME:
            times = frame[self.name].dt.tz_convert("UTC").dt.strftime("%Y-%m-%d %H:%M:%S")
            return [str(text) for text in times.fillna("")]
        return [
            "" if missing else self._text(value)
            for value, missing in zip(frame[self.name], frame[self.name].isna(), strict=True)
        ]

    def ranked(self, frame: pd.DataFrame) -> list[int]:
        """What its cells sort by: the place of each value among the values, from 1 on; 0 where it is missing.

        So whole numbers sort exactly, also those that a browser could not hold.
        """
        values = frame[self.name]
        places = {value: place for place, value in enumerate(sorted(values.dropna().unique()), 1)}
        return [places.get(value, 0) for value in values]

    def _text(self, value: Any) -> str:
        match self.kind:
            case ColumnKind.SIZE:
                return format_bytes(value)
            case ColumnKind.DURATION:
                return format_duration(value)
            case ColumnKind.NUMBER:
                return f"{value:,}"
            case ColumnKind.TRUTH:
                return "yes" if value else "no"
            case _:
                return str(value)


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """The columns of a DataFrame, in order. One whose name ends in ``_bytes`` holds sizes."""
    return [
        Column(name=str(name), title=_title(str(name), kind), kind=kind)
        for name in frame.columns
        for kind in [_kind(str(name), frame[name].dtype)]
    ]


def _kind(name: str, dtype: Any) -> ColumnKind:
    if isinstance(dtype, pd.DatetimeTZDtype):
        return ColumnKind.TIME
    if pd.api.types.is_timedelta64_dtype(dtype):
        return ColumnKind.DURATION
    if pd.api.types.is_bool_dtype(dtype):
        return ColumnKind.TRUTH
    if pd.api.types.is_numeric_dtype(dtype):
        return ColumnKind.SIZE if name.endswith("_bytes") else ColumnKind.NUMBER
    return ColumnKind.TEXT


def _title(name: str, kind: ColumnKind) -> str:
    for unit in _UNITS:
        name = name.removesuffix(unit)
    title = name.replace("_", " ").replace("lsn", "LSN")
    title = title[:1].upper() + title[1:]
    return f"{title} (UTC)" if kind is ColumnKind.TIME else title
