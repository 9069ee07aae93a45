"""The report of a run: judged, settled, and filed as notebook, HTML and record. Repeatable, should it be cut off."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from opskit.errors import OpskitError
from opskit.evidence import make_statement
from opskit.evidence.reports import MASTER
from opskit.reports.index import update_index
from opskit.reports.page import render_page
from opskit.runbooks._evidence import backup_subjects, open_trail, told_backups
from opskit.runbooks._filing import WORK, Desk, sha256_of, write_durably
from opskit.runbooks._outcome import Interruption, conclude


def file_report(
    desk: Desk, interruption: Interruption | None, ended_at: datetime | None = None
) -> dict[str, Any]:
    """File what a run left at its desk, and clear the desk.

    The notebook is filed first, for it is the evidence; a page that cannot be rendered does not take it away. The
    record comes last, because it names the digests of both; then it is entered in the audit log.

    Parameters
    ----------
    ended_at
        When the run ended; by default when it last wrote, for a run that was lost.

    Returns
    -------
    dict
        The record of the run, as it stands in the notebook's metadata below ``opskit``, and the paths ``notebook``,
        ``record`` and ``html`` (`None` when the page could not be rendered).
    """
    import nbformat

    order = desk.order()
    trail = open_trail(order)
    if desk.notebook.exists():  # cut off between notebook and record, in an earlier attempt
        notebook = nbformat.read(desk.notebook, as_version=4)
    else:
        notebook = _settled(desk, order, interruption, ended_at)
        notebook.metadata.opskit["audit"] = trail.before()
        write_durably(desk.notebook, (nbformat.writes(notebook) + "\n").encode())
    if not desk.record.exists():
        _render(desk, notebook)
        statement = make_statement(_subjects(desk, order, notebook), notebook.metadata.opskit)
        record = trail.seal(statement)
        if stamp := trail.stamp(record):
            write_durably(desk.timestamp, stamp)
        write_durably(desk.record, record)
    trail.enter(desk.directory.parents[2], desk.record, write_durably)
    desk.clear()
    with suppress(Exception):  # a page about reports must not take one away; the next run makes it
        update_index(desk.directory.parents[2])
    return {
        **notebook.metadata.opskit,
        "notebook": str(desk.notebook),
        "html": str(desk.html) if desk.html.exists() else None,
        "record": str(desk.record),
    }


def _render(desk: Desk, notebook: Any) -> None:
    try:
        page = render_page(notebook)
    except (
        Exception
    ):  # whatever a template or a strange output raises: the evidence is filed already
        return
    write_durably(desk.html, page.encode())


def _subjects(desk: Desk, order: dict[str, Any], notebook: Any) -> dict[str, str]:
    """What the record vouches for: master, notebook, page, and the records of the backups that the run was about."""
    found = {
        f"{MASTER}{order['runbook']}.ipynb": order.get("master_sha256"),
        f"{desk.name}.ipynb": sha256_of(desk.notebook),
        f"{desk.name}.html": sha256_of(desk.html),
        **backup_subjects(order, notebook),
    }
    return {name: digest for name, digest in found.items() if digest}


def _settled(
    desk: Desk,
    order: dict[str, Any],
    interruption: Interruption | None,
    ended_at: datetime | None,
) -> Any:
    notebook, ended_at = _executed(desk, order, ended_at)
    conclude(notebook, order, interruption, ended_at)
    notebook.metadata.opskit["backups"] = told_backups(notebook)
    if "papermill" in notebook.metadata:
        notebook.metadata.papermill.update(
            input_path=order["master"], output_path=str(desk.notebook)
        )
    return notebook


def _executed(desk: Desk, order: dict[str, Any], ended_at: datetime | None) -> tuple[Any, datetime]:
    """The working copy, or the master when not even its first cell began; and when the run ended."""
    import nbformat

    work = desk.work / WORK
    if work.exists():
        wrote_at = datetime.fromtimestamp(work.stat().st_mtime, UTC)
        return nbformat.read(work, as_version=4), ended_at or wrote_at
    try:
        notebook = nbformat.read(order["master"], as_version=4)
    except (OSError, ValueError, OpskitError):
        notebook = nbformat.v4.new_notebook()
    return notebook, ended_at or datetime.fromisoformat(order["started_at"])
