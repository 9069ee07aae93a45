"""The cell of parameters: what it declares, and what may be given."""

from pathlib import Path

import pytest

from opskit.errors import InputError
from opskit.runbooks import list_runbooks
from opskit.runbooks._parameters import Parameter, declared_parameters, read_parameters

CELL = """
cluster: str = "main"  # what # it works on
times: int = 3
share: float = 0.5  # between 0 and 1
dry_run: bool = False  # whether to pretend
"""


def test_a_line_declares_a_parameter() -> None:
    """Name, type, default and help of each parameter come from its one line."""
    assert declared_parameters(CELL) == (
        Parameter(name="cluster", type="str", default="main", help="what # it works on"),
        Parameter(name="times", type="int", default=3, help=""),
        Parameter(name="share", type="float", default=0.5, help="between 0 and 1"),
        Parameter(name="dry_run", type="bool", default=False, help="whether to pretend"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "times = 3",
        "times: int",
        "times: int = True",
        "times: int = 3.5",
        'times: int = "3"',
        "name: str | None = None",
        "name: str = None",
        'name: str = (\n    "x"\n)',
        'name: str = str("x")',
        "names: list = []",
        "import os",
        "times: int =",
    ],
)
def test_a_line_of_another_form_is_refused(line: str) -> None:
    """What papermill's help and our check would not read alike is no declaration."""
    with pytest.raises(InputError):
        declared_parameters(line)


def test_texts_become_typed_values() -> None:
    """Texts from a command line become values of the declared types, and only the given ones."""
    given = {"cluster": "", "times": "-4", "share": "1", "dry_run": "False"}
    assert read_parameters(declared_parameters(CELL), given) == {
        "cluster": "",
        "times": -4,
        "share": 1.0,
        "dry_run": False,
    }
    assert read_parameters(declared_parameters(CELL), {}) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("times", "many"),
        ("times", "1.0"),
        ("times", ""),
        ("share", "nan"),
        ("share", "inf"),
        ("dry_run", "yes"),
        ("dry_run", "0"),
        ("dry_run", ""),
    ],
)
def test_a_text_of_another_type_is_refused(name: str, text: str) -> None:
    """A text that is not of the declared type is refused by the parameter's name, never taken as truthy."""
    with pytest.raises(InputError, match=f"'{name}' is '{text}'"):
        read_parameters(declared_parameters(CELL), {name: text})


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    """A misspelt name is an error that names the right one."""
    with pytest.raises(InputError, match="'dry_rnu'") as refused:
        read_parameters(declared_parameters(CELL), {"dry_rnu": "true"})
    assert refused.value.hint == "Did you mean 'dry_run'?"


def test_papermill_reads_our_masters_alike() -> None:
    """``papermill --help-notebook`` shows the parameters that we declare."""
    import papermill

    masters = list_runbooks()
    assert {master.name for master in masters} >= {"scheduled_backup", "local_restore"}
    for master in masters:
        theirs = papermill.inspect_notebook(Path(master.path))
        assert [
            (p["name"], p["inferred_type_name"], p["help"].strip()) for p in theirs.values()
        ] == [(p.name, p.type, p.help) for p in master.parameters]
