"""The way on from a panel: the same as a runbook, and as Python."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets

from opskit.errors import InputError
from opskit.runbooks import open_as_notebook
from opskit.widgets._ask import Clicked
from opskit.widgets._served import Served, jupyter_server, link

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Lesson:
    """A runbook with the parameters that do what the panel would do now, and the Python that does.

    `runbook` is empty where none does it.
    """

    runbook: str
    parameters: Mapping[str, Value]
    python: str


class Teach:
    """*Open as runbook* and *Copy as Python*.

    Parameters
    ----------
    lesson
        What there is to teach as the panel stands; asked when a button is pressed.
    folder
        Where notebooks go.
    """

    def __init__(self, clicked: Clicked, lesson: Callable[[], Lesson], folder: Path) -> None:
        self._lesson, self._folder = lesson, folder
        self._served = jupyter_server()
        self.runbook = ipywidgets.Button(
            description="Open as runbook",
            tooltip=f"Write a notebook that does this and keeps the evidence, into {folder}",
        )
        self.runbook.on_click(clicked(self._open))
        self.python = ipywidgets.Button(
            description="Copy as Python", tooltip="Show the Python that does this"
        )
        self.python.on_click(clicked(self._show))
        self.message = ipywidgets.HTML()
        self.code = ipywidgets.Textarea(
            description="Python", tooltip="Python that does the same: select all, and copy"
        )
        self.code.layout.display = "none"
        buttons = ipywidgets.HBox([self.runbook, self.python, self.message])
        field = ipywidgets.HBox([self.code])
        for line in (buttons, field):
            line.add_class("opskit-actions")
        field.add_class("opskit-code")
        self.widget = ipywidgets.VBox([buttons, field])

    def _open(self) -> None:
        lesson = self._lesson()
        if not lesson.runbook:
            raise InputError(
                "no runbook does this",
                hint="Runbooks restore a backup, a time on the newest timeline, or the archive's end.",
            )
        path = open_as_notebook(lesson.runbook, lesson.parameters, self._folder)
        self.message.value = written(path, self._served)

    def _show(self) -> None:
        if self.code.layout.display == "":
            self.code.layout.display = "none"
            self.python.description = "Copy as Python"
            return
        text = self._lesson().python
        self.code.rows = text.count("\n") + 1
        self.code.value = text
        self.code.layout.display = ""
        self.python.description = "Hide Python"


def written(path: Path, served: Served | None) -> str:
    """Where a notebook was written, as HTML: a link where JupyterLab can show it, the reason where it cannot."""
    place = f"in {escape(str(path.parent))}"
    below = served.below(path) if served is not None else None
    if served is not None and below is not None:
        opens = link(served.document(path), path.name, f"Open {path.name} in JupyterLab", below)
        return f"<p>Written: {opens} {place}.</p>"
    why = (
        "No Jupyter server is known here, so there is no link to it."
        if served is None
        else f"JupyterLab shows what is below {escape(str(served.root))}, and not hidden: copy it to there."
    )
    return f"<p>Written: <code>{escape(path.name)}</code> {place}. {why}</p>"


def opened(cluster: str, config: str | None) -> str:
    """The lines that every lesson begins with."""
    given = f"{cluster!r}" if config is None else f"{cluster!r}, {config!r}"
    return f"import opskit\n\ncluster = opskit.cluster({given})\n"
