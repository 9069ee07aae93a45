"""Small things to show in a notebook: HTML for people, the same as text, and records for programs.

The HTML stands on its own in JupyterLab, light or dark; in a report its classes take the page's style.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from opskit.reports.format import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Something that a notebook can show.

    Parameters
    ----------
    data
        Further MIME bundles, by MIME type, for programs that read the executed notebook.
    """

    html: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        return {"text/html": self.html, "text/plain": self.text, **self.data}

    def __repr__(self) -> str:
        return self.text


def facts(rows: Mapping[str, str]) -> View:
    """Names and what they are, a row each."""
    width = max((len(name) for name in rows), default=0)
    body = "".join(
        f'<tr><th scope="row" style="text-align:left;padding-right:1.5em">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return View(
        html=f'<table class="opskit-facts">{body}</table>',
        text="\n".join(f"{name:{width}}  {value}" for name, value in rows.items()),
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> View:
    """A table of texts; the columns in `numbers` are set flush right."""
    lines = [list(columns), *(list(row) for row in rows)]
    align = ["right" if column in numbers else "left" for column in columns]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = "\n".join(
        "  ".join(
            cell.rjust(width) if side == "right" else cell.ljust(width)
            for cell, width, side in zip(line, widths, align, strict=True)
        ).rstrip()
        for line in lines
    )
    cells = [
        "".join(
            f'<{tag} style="text-align:{side}">{escape(cell)}</{tag.split()[0]}>'
            for cell, side in zip(line, align, strict=True)
        )
        for tag, line in [('th scope="col"', lines[0]), *(("td", line) for line in lines[1:])]
    ]
    body = "".join(f"<tr>{row}</tr>" for row in cells[1:])
    return View(
        html=f'<table class="opskit-table"><thead><tr>{cells[0]}</tr></thead><tbody>{body}</tbody></table>',
        text=text,
    )


def time_and_local(time: datetime) -> str:
    """A time in UTC and, in brackets, by the clock of this machine: ``2026-11-22 14:03:05 UTC (15:03:05 CET)``."""
    local = time.astimezone()
    if not local.utcoffset():
        return format_time(time)
    same_day = local.date() == time.astimezone(UTC).date()
    return f"{format_time(time)} ({local.strftime('%H:%M:%S %Z' if same_day else '%Y-%m-%d %H:%M:%S %Z')})"
