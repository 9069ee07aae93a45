"""Arguments that need no validation, taken as they are.

typer (0.29) validates every argument of a command by pydantic, whose loading is a fifth of what a short command takes.
A text is a text, and a path that can be read is a path: those pass here. Whatever else was given goes typer's way,
which also words what is wrong with it. Should typer come to do it otherwise, what is set here is not looked at.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption


def take_plainly(command: Any, above: typer.Context | None = None) -> None:
    """Let the plain arguments of a command, and of the commands below it, pass."""
    context = typer.Context(command, parent=above, **command.context_settings)
    for parameter in command.get_params(context):  # with --help, which is made here
        if isinstance(parameter, (TyperArgument, TyperOption)):
            parameter._runtime_param = _Plain()  # type: ignore[assignment]
    if isinstance(command, TyperGroup):
        for below in command.commands.values():
            take_plainly(below, context)


class _Plain:
    """Stands where typer keeps what turns an argument's text into a value, and makes room for it when it is needed."""

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        wanted = param.type_descriptor.annotation
        if not (param.multiple or param.nargs == -1):
            if value is None or (wanted is str and type(value) is str):
                return value
            if wanted is Path and _is_usable(value):
                return Path(value)
            if isinstance(wanted, type) and type(value) is wanted:  # a default
                return value
            if isinstance(wanted, type) and issubclass(wanted, StrEnum) and value in list(wanted):
                return wanted(value)
        elif not value:
            return ()
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _is_usable(path: Any) -> bool:
    """Whether it is the name of a path that may be read, or is not there."""
    return type(path) is str and (os.access(path, os.R_OK) or not os.path.lexists(path))
