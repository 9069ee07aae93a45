"""What a runbook's ``parameters`` cell declares, and whether given values fit it.

The cell is the only declaration: a line each ``name: type = default  # help``, types `str`, `int`, `float`, `bool`.
papermill's help reads the same lines; papermill itself would run a misspelt name, and hand ``-p dry_run false`` on as
the *truthy string* ``"false"``. The help may end with what is allowed::

    keep: int = 7         # how many to keep [1..100]       one side may be left out: [1..]
    layout: str = "tree"  # how to unpack [tree|flat]
    at: str = ""          # the time to go to [required]    it must not stay empty

A default that is not allowed is a place to fill in: then the parameter must be given. The command, papermill's engine,
``opskit.runbook(globals())`` and whoever calls `run_runbook` all ask `check_parameters`, so that they refuse alike.
Knows no notebook file and no kernel.
"""

import ast
import contextlib
import difflib
import io
import math
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opskit.errors import ErrorKind, InputError
from opskit.model.secrets import Scrubber, is_secret_name, secret_in
from opskit.runbooks._allowed import Allowed, read_allowed

TYPES = ("str", "int", "float", "bool")
Value = str | int | float | bool
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": ""}
_ELSEWHERE = "Reports show parameters; passwords live in ~/.pgpass, in the service file or in the environment."


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One line of a ``parameters`` cell. `type` is ``str``, ``int``, ``float`` or ``bool``."""

    name: str
    type: str
    default: Value
    help: str
    allowed: Allowed = field(default_factory=Allowed)

    @property
    def required(self) -> bool:
        """Whether it must be given: its default is not allowed."""
        return not self.allowed.permits(self.default)

    def as_dict(self) -> dict[str, Any]:
        """The declaration as plain data."""
        return {
            "name": self.name,
            "type": self.type,
            "default": None if self.required else self.default,
            "help": self.help,
            "required": self.required,
            "minimum": self.allowed.minimum,
            "maximum": self.allowed.maximum,
            "choices": list(self.allowed.choices),
        }

    def read(self, text: str) -> Value:
        """The value that `text` says, as typed on a command line.

        Raises
        ------
        InputError
            It is not of this parameter's type, or not allowed; booleans are ``true`` or ``false``.
        """
        try:
            match self.type:
                case "bool":
                    return {"true": True, "false": False}[text.strip().lower()]
                case "int":
                    return self.check(int(text))
                case "float" if math.isfinite(number := float(text)):
                    return self.check(number)
                case "str":
                    return self.check(text)
        except (ValueError, KeyError) as error:
            if isinstance(error, InputError):  # which is a ValueError
                raise
        raise self._refusal(text)

    def check(self, value: object) -> Value:
        """`value`, when it is of this parameter's type already, and allowed.

        Raises
        ------
        InputError
            It is not: the string ``"false"`` is no `bool`, and `True` is no `int`.
        """
        typed = _typed(self.type, value)
        if typed is None:
            raise self._refusal(value)
        if not self.allowed.permits(typed):
            raise self._missing() if typed == self.default else self._refusal(value)
        return typed

    @property
    def _declared(self) -> str:
        return f"{self.name}: {self.type} = {self.default!r}" + (
            f"  # {self.help}" if self.help else ""
        )

    def _missing(self) -> InputError:
        return InputError(
            f"the parameter '{self.name}' is missing, expected {self._expected}",
            hint=f"Give it; it is declared as '{self._declared}'.",
        )

    def _refusal(self, value: object) -> InputError:
        message = f"the parameter '{self.name}' is {value!r}, expected {self._expected}"
        if self.type == "str" and isinstance(value, int | float):
            return InputError(
                message, hint=f"papermill reads -p as a number; give it a text by -r {self.name}."
            )
        return InputError(message, hint=f"It is declared as '{self._declared}'.")

    @property
    def _expected(self) -> str:
        return f"{_KINDS[self.type]} {self.allowed}".strip() or "a text"


def _typed(kind: str, value: object) -> Value | None:
    """`value`, when it is of that type already; otherwise `None`."""
    match kind, value:
        case ("str", str(text)):
            return text
        case ("bool", bool(answer)):
            return answer
        case ("int" | "float", int(number)) if not isinstance(value, bool):
            return number
        case ("float", float(number)) if math.isfinite(number):
            return number
    return None


def declared_parameters(source: str) -> tuple[Parameter, ...]:
    """The parameters that the source of a ``parameters`` cell declares, in its order.

    Raises
    ------
    InputError
        A line of it is not of the form ``name: type = default  # help``, or declares a secret.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"the parameters cell is not Python: {error.msg}") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return tuple(_parameter(statement, comments) for statement in tree.body)


def _parameter(statement: ast.stmt, comments: Mapping[int, str]) -> Parameter:
    match statement:
        case ast.AnnAssign(
            target=ast.Name(id=name),
            annotation=ast.Name(id=kind),
            value=ast.expr() as expression,
        ) if kind in TYPES and statement.lineno == statement.end_lineno:
            if kind == "str" and is_secret_name(name):
                raise _secret(name, "is declared")
            default: Value | None = None
            with contextlib.suppress(ValueError):
                default = _typed(kind, ast.literal_eval(expression))
            if default is not None:
                told = comments.get(statement.lineno, "")
                allowed = read_allowed(name, kind, told)
                return Parameter(name=name, type=kind, default=default, help=told, allowed=allowed)
    raise InputError(
        f"the parameters cell holds {ast.unparse(statement)!r}, expected a line 'name: type = default  # help'",
        hint=f"Types are {', '.join(TYPES)}; the default is a literal of that type.",
    )


def check_parameters(
    declared: Sequence[Parameter], given: Mapping[str, object], secrets: Scrubber, *, texts: bool
) -> dict[str, Value]:
    """The values of all `declared` parameters: those `given`, and the defaults of the others.

    Parameters
    ----------
    secrets
        Knows the secrets of this run, which no parameter may hold.
    texts
        Whether texts among `given` are to be read, as from a command line; otherwise they are texts.

    Raises
    ------
    InputError
        A name is not declared, a value is missing, not of the declared type or not allowed, or is a secret. The
        message names the parameter; it does not repeat a secret.
    """
    for name, value in given.items():
        _refuse_secrets(name, value, secrets)
    check_names(declared, list(given))
    values: dict[str, Value] = {}
    for parameter in declared:
        value = given.get(parameter.name, parameter.default)
        if texts and isinstance(value, str) and parameter.name in given:
            values[parameter.name] = parameter.read(value)
        else:
            values[parameter.name] = parameter.check(value)
    return values


def _refuse_secrets(name: str, value: object, secrets: Scrubber) -> None:
    if isinstance(value, str):
        if is_secret_name(name):
            raise _secret(name, "is given")
        what = secret_in(value)
        if what is None and name != "cluster" and secrets.knows(value):  # that one is only a name
            what = "a password of this environment"
        if what is not None:
            raise _secret(name, f"holds {what}")


def _secret(name: str, what: str) -> InputError:
    where = f"the parameter '{name}' {what}"
    return InputError(
        where if what.startswith("holds") else f"{where}, and no parameter may hold a secret",
        ErrorKind.SECRET_IN_PARAMETERS,
        _ELSEWHERE,
    )


def check_names(declared: Sequence[Parameter], given: Sequence[str]) -> None:
    """Nothing, when every given name is declared.

    Raises
    ------
    InputError
        A name is not; the hint names the nearest one, or all.
    """
    known = [parameter.name for parameter in declared]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            raise InputError(
                f"unknown parameter '{name}'",
                hint=f"Did you mean '{near[0]}'?" if near else f"Known here: {', '.join(known)}.",
            )
