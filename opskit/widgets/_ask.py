"""The one question before something is done: what will happen, and a button that names it."""

from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets

Clicked = Callable[[Callable[[], None]], Callable[[object], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Parameters
    ----------
    html
        The plan.
    button
        What the button says: the deed with its object, ``Delete 20261120T020000Z of main``.
    act
        Does it, given what is in the field.
    field
        What the field is called; without a name there is none.
    wanted
        What has to be typed into the field before the button can be pressed; anything will do where it is empty.
    destroys
        Whether it cannot be undone.
    """

    html: str
    button: str
    act: Callable[[str], None]
    field: str = ""
    wanted: str = ""
    destroys: bool = False


class Ask:
    """A place for one question at a time; nothing is shown between questions.

    Parameters
    ----------
    clicked
        Makes the callback of a button.
    """

    def __init__(self, clicked: Clicked) -> None:
        self._question: Question | None = None
        self.plan = ipywidgets.HTML()
        self.plan.add_class("opskit-message")
        self.field = ipywidgets.Text(description="Confirm", tooltip="Confirm")
        self.field.observe(self._typed, "value")
        self.act = ipywidgets.Button(description="Do it", tooltip="Do it")
        self.act.on_click(clicked(self._go))
        self.leave = ipywidgets.Button(
            description="Close", tooltip="Close this, and change nothing"
        )
        self.leave.on_click(clicked(self.close))
        controls = ipywidgets.HBox([self.field, self.act, self.leave])
        controls.add_class("opskit-actions")
        self.widget = ipywidgets.VBox([self.plan, controls])
        for name in ("opskit-card", "opskit-asking"):
            self.widget.add_class(name)
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether a question waits for its answer."""
        return self._question is not None

    def ask(self, question: Question) -> None:
        """Ask; a question that waits is dropped."""
        self._question = question
        self.plan.value = question.html
        self.field.description = question.field
        self.field.tooltip = question.field
        self.field.value = ""
        self.field.layout.display = "" if question.field else "none"
        self.act.description = self.act.tooltip = question.button
        self.act.button_style = "danger" if question.destroys else "primary"
        self.widget.layout.display = ""
        self._typed(None)

    def close(self) -> None:
        """Take the question away."""
        self._question = None
        self.field.value = ""
        self.widget.layout.display = "none"

    def _typed(self, _: object) -> None:
        wanted = self._question.wanted if self._question is not None else ""
        self.act.disabled = bool(wanted) and self.field.value.strip() != wanted

    def _go(self) -> None:
        question, typed = self._question, self.field.value.strip()
        if question is None or (question.wanted and typed != question.wanted):
            return
        self.close()
        question.act(typed)
