"""An executed runbook as one page of HTML: for people, on any screen or paper, without any network.

Any executed notebook becomes such a page, with its panels in words; only a run has an outcome to show.

nbconvert renders it with the template beside this module. The page runs no script and fetches nothing; its content
security policy makes the browser refuse what an output might try.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

from opskit.reports.format import format_duration
from opskit.reports.view import time_and_local

TEMPLATES = Path(__file__).parent / "templates"
_H1 = re.compile(r"\A\s*# +(.+?)\s*(?:\n|\Z)")
_H2 = re.compile(r"^## +(.+?)\s*$", re.MULTILINE)
MARKS = {"passed": "✓", "failed": "✗", "aborted": "■", "died": "†", "not run": "–"}


def render_page(notebook: Any) -> str:
    """The page of an executed notebook; that of a run has its record in the metadata, below ``opskit``."""
    import nbformat
    from nbconvert.exporters import HTMLExporter

    copy = nbformat.from_dict(notebook)
    title, lead = _take_title(copy)
    exporter = HTMLExporter(
        template_name="opskit",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
        filters={
            "moment": moment,
            "took": lambda seconds: format_duration(timedelta(seconds=seconds)),
            "mark": lambda result: MARKS[result],
            "shown": _shown,
        },
    )
    page, _ = exporter.from_notebook_node(
        copy,
        {
            "title": title,
            "lead": lead,
            "run": copy.metadata.get("opskit", {}),
            "told": _told(copy.metadata.get("opskit", {})),
            "sections": _sections(copy),
            "style": (TEMPLATES / "opskit" / "style.css").read_text(encoding="utf-8"),
        },
    )
    return str(page)


def moment(timestamp: str) -> str:
    """A moment as HTML; see `time_and_local`."""
    text = time_and_local(datetime.fromisoformat(timestamp))
    return f'<time datetime="{escape(timestamp)}">{escape(text)}</time>'


def _take_title(notebook: Any) -> tuple[str, str]:
    """Take the cell with the H1 out of the notebook, and what stands below it: the page's head shows them."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := _H1.match(cell.source)):
            notebook.cells.remove(cell)
            return match[1], cell.source[match.end() :]
    return str(notebook.metadata.get("opskit", {}).get("runbook", "Runbook")), ""


def _told(run: Mapping[str, Any]) -> str:
    """What stands beside the outcome: the reason, or how many checks passed, and how many were not run."""
    if run.get("reason"):
        return str(run["reason"])
    results = [check["result"] for check in run.get("checks", [])]
    passed, not_run = results.count("passed"), results.count("not run")
    told = f"{passed} check{'s'[: passed != 1]} passed"
    return f"{told}, {not_run} not run" if not_run else told


def _sections(notebook: Any) -> list[str]:
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    return [title for text in texts for title in _H2.findall(text)]


def _shown(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parameters as people read them: an empty text as a dash."""
    texts = {True: "true", False: "false", "": "–"}
    return [
        (name, texts.get(value, str(value)) if isinstance(value, bool | str) else str(value))
        for name, value in parameters.items()
    ]
