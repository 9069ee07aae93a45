"""Which values of a parameter are allowed: what the brackets at the end of its help say."""

import contextlib
import math
import re
from dataclasses import dataclass

from opskit.errors import InputError

NUMBERS = ("int", "float")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Which values of a parameter's type are allowed: a range of numbers, some texts, or any text but the empty one."""

    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False

    def permits(self, value: str | int | float | bool) -> bool:
        """Whether `value`, of the right type, is allowed."""
        if isinstance(value, str):
            return value in self.choices if self.choices else bool(value) or not self.required
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return low <= value <= high

    def __str__(self) -> str:
        """``from 1 to 100``, ``'tree' or 'flat'``, ``a text``; empty when everything is allowed."""
        if self.choices:
            return " or ".join(map(repr, self.choices))
        bounds = [("from", self.minimum), ("to", self.maximum)]
        told = " ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)
        return told if told or not self.required else "a text"


def read_allowed(name: str, kind: str, told: str) -> Allowed:
    """What the end of a parameter's help allows.

    Raises
    ------
    InputError
        It ends with brackets, but not with a form that fits the parameter's type `kind`.
    """
    match = _BRACKETS.search(told)
    if match is None:
        return Allowed()
    text = match[1]
    if kind == "str" and text == "required":
        return Allowed(required=True)
    if kind == "str" and "|" in text:
        return Allowed(choices=tuple(part.strip() for part in text.split("|")))
    low, dots, high = text.partition("..")
    if kind in NUMBERS and dots and (low or high):
        with contextlib.suppress(ValueError):
            return Allowed(
                minimum=float(low) if low else None, maximum=float(high) if high else None
            )
    forms = "[1..100], [1..] or [..100]" if kind in NUMBERS else "[one|other] or [required]"
    raise InputError(
        f"the help of the parameter '{name}' ends with '[{text}]'"
        + (f", expected {forms}" if kind != "bool" else ", but a bool has no range"),
        hint="Brackets at the end of the help tell which values are allowed.",
    )
