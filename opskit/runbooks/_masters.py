"""Where the masters of the runbooks are, and what each says of itself. A master is read, never run in place."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import opskit
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.runbooks._parameters import Parameter, declared_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Runbook:
    """A master notebook.

    `name` is what ``opskit runbook run`` takes, `title` its H1, `summary` the paragraph below it.
    """

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...]
    path: Path

    def as_dict(self) -> dict[str, Any]:
        """What it says of itself, as plain data."""
        return {
            "name": self.name,
            "title": self.title,
            "summary": self.summary,
            "parameters": [parameter.as_dict() for parameter in self.parameters],
        }


def masters_directory() -> Path:
    """Where the masters are: inside the installed package, or beside it in a checkout."""
    package = Path(opskit.__file__).resolve().parent
    shipped = package / "_shared" / "runbooks"
    return shipped if shipped.is_dir() else package.parent / "runbooks"


def list_runbooks(directory: Path | None = None) -> list[Runbook]:
    """The runbooks below `directory` (by default those of opskit), by name."""
    return [
        read_master(path) for path in sorted((directory or masters_directory()).glob("*.ipynb"))
    ]


def find_runbook(name: str, directory: Path | None = None) -> Runbook:
    """The runbook called `name`; ``scheduled-backup`` and ``scheduled_backup.ipynb`` name the same.

    Raises
    ------
    NotFoundError
        There is none; the hint names the nearest one, or all.
    """
    paths = {path.stem: path for path in (directory or masters_directory()).glob("*.ipynb")}
    wanted = name.removesuffix(".ipynb").replace("-", "_")
    if wanted in paths:
        return read_master(paths[wanted])
    near = difflib.get_close_matches(wanted, paths, n=1, cutoff=0.5)
    raise NotFoundError(
        f"there is no runbook {name!r}",
        ErrorKind.RUNBOOK_NOT_FOUND,
        f"Did you mean '{near[0]}'?"
        if near
        else f"There are: {', '.join(sorted(paths)) or 'none'}.",
    )


def read_master(path: Path) -> Runbook:
    """What the master at `path` says of itself.

    Raises
    ------
    InputError
        It is no notebook, or its first code cell is not tagged ``parameters`` or declares no ``cluster: str``.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        parameters = parameters_of(cells, path.stem)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} is not a notebook: {type(error).__name__}") from None
    title, summary = _headline(cells)
    return Runbook(
        name=path.stem, title=title or path.stem, summary=summary, parameters=parameters, path=path
    )


def parameters_of(cells: Sequence[Mapping[str, Any]], name: str) -> tuple[Parameter, ...]:
    """What the cells of the runbook called `name` declare.

    Raises
    ------
    InputError
        The first code cell is not tagged ``parameters``, or declares no ``cluster: str``.
    """
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if not code or "parameters" not in code[0]["metadata"].get("tags", []):
        raise InputError(
            f"the first code cell of the runbook {name!r} is not tagged 'parameters'",
            hint="Give the cell that declares 'cluster: str' this tag.",
        )
    parameters = declared_parameters(_source(code[0]))
    if not any(p.name == "cluster" and p.type == "str" for p in parameters):
        raise InputError(
            f"the runbook {name!r} declares no parameter 'cluster: str'",
            hint='Add a line cluster: str = "main"  # what it works on.',
        )
    return parameters


def _headline(cells: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    first = next((_source(cell) for cell in cells if cell["cell_type"] == "markdown"), "")
    paragraphs = [" ".join(block.split()) for block in first.split("\n\n") if block.strip()]
    title = next((p.removeprefix("# ") for p in paragraphs if p.startswith("# ")), "")
    return title, next((p for p in paragraphs if not p.startswith("#")), "")


def _source(cell: Mapping[str, Any]) -> str:
    """A cell's text; files keep it as a list of lines. (nbformat knows too, but takes a second to import.)"""
    return "".join(cell["source"])
