"""What a runbook's ``parameters`` cell declares, and whether given values fit it.

The cell is the only declaration: a line each ``name: type = default  # help``, types `str`, `int`, `float`, `bool`.
papermill's help reads the same lines; papermill itself would run a misspelt name, and hand ``-p dry_run false`` on as
the *truthy string* ``"false"``. Knows no notebook file and no kernel.
"""

import ast
import contextlib
import difflib
import io
import math
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opskit.errors import InputError

TYPES = ("str", "int", "float", "bool")
Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One line of a ``parameters`` cell. `type` is ``str``, ``int``, ``float`` or ``bool``."""

    name: str
    type: str
    default: Value
    help: str

    def read(self, text: str) -> Value:
        """The value that `text` says, as typed on a command line.

        Raises
        ------
        InputError
            It is not of this parameter's type; booleans are ``true`` or ``false``.
        """
        try:
            match self.type:
                case "bool":
                    return {"true": True, "false": False}[text.strip().lower()]
                case "int":
                    return int(text)
                case "float" if math.isfinite(number := float(text)):
                    return number
                case "str":
                    return text
        except (ValueError, KeyError):
            pass
        raise _refusal(self.name, self.type, text, self.default)

    def check(self, value: object) -> Value:
        """`value`, when it is of this parameter's type already.

        Raises
        ------
        InputError
            It is not: the string ``"false"`` is no `bool`, and `True` is no `int`.
        """
        return _check(self.name, self.type, value, self.default)


def _check(name: str, kind: str, value: object, default: Value | None = None) -> Value:
    match kind, value:
        case ("str", str(text)):
            return text
        case ("bool", bool(answer)):
            return answer
        case ("int" | "float", int(number)) if not isinstance(value, bool):
            return number
        case ("float", float(number)) if math.isfinite(number):
            return number
    raise _refusal(name, kind, value, default)


def _refusal(name: str, kind: str, value: object, default: Value | None) -> InputError:
    expected = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "str": "a text",
    }
    declared = f"{name}: {kind}" if default is None else f"{name}: {kind} = {default!r}"
    return InputError(
        f"the parameter '{name}' is {value!r}, expected {expected[kind]}",
        hint=f"It is declared as '{declared}'.",
    )


def declared_parameters(source: str) -> tuple[Parameter, ...]:
    """The parameters that the source of a ``parameters`` cell declares, in its order.

    Raises
    ------
    InputError
        A line of it is not of the form ``name: type = default  # help``.
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
            with contextlib.suppress(ValueError):
                default = ast.literal_eval(expression)
                return Parameter(
                    name=name,
                    type=kind,
                    default=_check(name, kind, default),
                    help=comments.get(statement.lineno, ""),
                )
    raise InputError(
        f"the parameters cell holds {ast.unparse(statement)!r}, expected a line 'name: type = default  # help'",
        hint=f"Types are {', '.join(TYPES)}; the default is a literal.",
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


def read_parameters(declared: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, Value]:
    """Typed values of the `given` texts; parameters that are not given are left out.

    Raises
    ------
    InputError
        A name is not declared, or a text is not of the declared type.
    """
    check_names(declared, list(given))
    return {p.name: p.read(given[p.name]) for p in declared if p.name in given}
