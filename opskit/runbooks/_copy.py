"""A runbook as a notebook of somebody's own, with its parameters filled in; the master stays as it is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.errors import ErrorKind, StoreError
from opskit.runbooks._masters import find_runbook
from opskit.runbooks._parameters import Parameter, Value, check_names, check_parameters
from opskit.runbooks._secrets import run_scrubber


def open_as_notebook(name: str, parameters: Mapping[str, Value], folder: Path | str = ".") -> Path:
    """Copy the runbook `name` into `folder`, with `parameters` as the defaults of its parameters cell.

    Returns
    -------
    Path
        The new notebook: ``<name>.ipynb``, or ``<name>-2.ipynb`` and so on where that exists; nothing is overwritten.

    Raises
    ------
    NotFoundError
        There is no such runbook.
    InputError
        A parameter is unknown, or its value not allowed or a secret.
    StoreError
        The folder cannot be written.
    """
    master = find_runbook(name)
    check_names(master.parameters, list(parameters))
    values = check_parameters(master.parameters, parameters, run_scrubber(), texts=False)
    notebook: dict[str, Any] = json.loads(master.path.read_text(encoding="utf-8"))
    [cell, *_] = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = [_line(parameter, values[parameter.name]) for parameter in master.parameters]
    cell["source"] = "\n".join(lines).splitlines(keepends=True)
    content = json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
    return _written(Path(folder).absolute(), master.name, content)


def _line(parameter: Parameter, value: Value) -> str:
    told = f"  # {parameter.help}" if parameter.help else ""
    return f"{parameter.name}: {parameter.type} = {_literal(value)}{told}"


def _literal(value: Value) -> str:
    """A literal with the quotes that the masters have."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _written(folder: Path, name: str, content: str) -> Path:
    number = 1
    while True:
        path = folder / (f"{name}.ipynb" if number == 1 else f"{name}-{number}.ipynb")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise StoreError(
                f"{str(path)!r} cannot be written: {error.strerror}",
                ErrorKind.STORE_NOT_WRITABLE,
                "Open the panel with folder=, a directory that this account may write to.",
            ) from None
