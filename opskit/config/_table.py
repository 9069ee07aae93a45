"""A table of TOML that refuses keys which nobody reads, and values that are not what they should be."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from opskit.errors import ErrorKind, InputError

_DAYS = re.compile(r"[1-9][0-9]{0,4}[dw]")
_HOURS = re.compile(r"[1-9][0-9]{0,4}[hdw]")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}

Choice = TypeVar("Choice", bound=StrEnum)


class Table:
    """A TOML table with its path, which refuses keys that nobody reads."""

    def __init__(self, data: Any, path: str, known: tuple[str, ...] | None) -> None:
        if not isinstance(data, Mapping):
            raise InputError(
                f"the setting '{path}' is {data!r}, expected a table",
                ErrorKind.WRONG_SETTING,
                f"Write it as [{path}] with keys below it.",
            )
        self.data, self.path = data, path
        for key in data:
            if known is not None and key not in known:
                raise InputError(
                    f"unknown setting '{self._name(key)}'",
                    ErrorKind.UNKNOWN_SETTING,
                    nearest(key, known, "Did you mean {}?") or f"Known here: {', '.join(known)}.",
                )

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def table(self, key: str, known: tuple[str, ...] | None) -> "Table":
        return Table(self.data.get(key, {}), self._name(key), known)

    def _value(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.data.get(key)
        if value is not None and not fits(value):
            raise InputError(
                f"the setting '{self._name(key)}' is {value!r}, expected {expected}",
                ErrorKind.WRONG_SETTING,
            )
        return value

    def text(self, key: str) -> str | None:
        value: str | None = self._value(key, lambda v: isinstance(v, str) and v != "", "a text")
        return value

    def seconds(self, key: str, default: float) -> float:
        value: float | None = self._value(
            key,
            lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= 3600,
            "a number of seconds up to 3600",
        )
        return default if value is None else value

    def count(self, key: str, at_least: int) -> int | None:
        value: int | None = self._value(
            key,
            lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= at_least,
            f"a whole number from {at_least} on",
        )
        return value

    def days(self, key: str) -> timedelta | None:
        """A time like ``"90d"`` or ``"12w"``: whole days or weeks."""
        return self._time(key, _DAYS, "a number of days or weeks like '90d' or '12w'")

    def hours(self, key: str) -> timedelta | None:
        """A time like ``"26h"``, ``"3d"`` or ``"2w"``: whole hours, days or weeks."""
        return self._time(key, _HOURS, "a number of hours, days or weeks like '26h' or '3d'")

    def _time(self, key: str, form: re.Pattern[str], expected: str) -> timedelta | None:
        value = self._value(
            key, lambda v: isinstance(v, str) and form.fullmatch(v) is not None, expected
        )
        return None if value is None else timedelta(**{_UNITS[value[-1]]: int(value[:-1])})

    def texts(self, key: str) -> list[str]:
        value: list[str] | None = self._value(
            key,
            lambda v: isinstance(v, list) and all(isinstance(item, str) for item in v),
            "a list of texts",
        )
        return value or []

    def paths(self, key: str, root: Path) -> tuple[Path, ...]:
        return tuple(root / Path(path).expanduser() for path in self.texts(key))

    def choice(self, key: str, choices: type[Choice], default: Choice) -> Choice:
        value = self.text(key)
        if value is None:
            return default
        if value not in list(choices):
            raise InputError(
                f"the setting '{self._name(key)}' is {value!r}, expected {' or '.join(map(repr, map(str, choices)))}",
                ErrorKind.WRONG_SETTING,
            )
        return choices(value)


def nearest(word: str, known: Any, sentence: str) -> str:
    """`sentence` with the known word that is nearest to `word`; empty when none is near."""
    import difflib  # most configurations are without mistakes

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return sentence.format(f"'{near[0]}'") if near else ""
