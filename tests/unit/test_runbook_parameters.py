"""The cell of parameters: what it declares, and what may be given."""

from pathlib import Path

import pytest

from opskit.errors import ErrorKind, InputError
from opskit.model.secrets import Scrubber
from opskit.runbooks import list_runbooks
from opskit.runbooks._allowed import Allowed
from opskit.runbooks._parameters import (
    Parameter,
    Value,
    check_names,
    check_parameters,
    declared_parameters,
)

CELL = """
cluster: str = "main"  # what # it works on
times: int = 3
share: float = 0.5  # between 0 and 1
dry_run: bool = False  # whether to pretend
"""


LIMITED = """
cluster: str = "main"  # what it works on
keep: int = 7  # how many to keep [1..100]
share: float = 0.5  # of the disk [..0.9]
least: int = 0  # at least so many [1..]
layout: str = "tree"  # how to unpack [tree|flat]
at: str = ""  # the time to go to [required]
"""
GIVEN = {"least": 1, "at": "now"}


def read(cell: str, given: dict[str, object], *, texts: bool = True) -> dict[str, Value]:
    """The values of a cell's parameters."""
    return check_parameters(declared_parameters(cell), given, Scrubber({"planted-1"}), texts=texts)


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
    """Texts from a command line become values of the declared types; what is not given keeps its default."""
    given: dict[str, object] = {"cluster": "", "times": "-4", "share": "1", "dry_run": "False"}
    typed = {"cluster": "", "times": -4, "share": 1.0, "dry_run": False}
    assert read(CELL, given) == typed
    assert read(CELL, dict(typed), texts=False) == typed
    defaults = {"cluster": "main", "times": 3, "share": 0.5, "dry_run": False}
    assert read(CELL, {}) == defaults


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
    for texts in (True, False):
        with pytest.raises(InputError, match=f"'{name}' is '{text}'"):
            read(CELL, {name: text}, texts=texts)


@pytest.mark.parametrize(
    ("name", "value"), [("dry_run", "true"), ("times", "3"), ("times", True), ("note", 5)]
)
def test_papermill_hands_on_values_as_they_are(name: str, value: object) -> None:
    """A value of another type is refused, though its text would be readable; a number for a text says what to do."""
    with pytest.raises(InputError, match=f"'{name}' is {value!r}") as refused:
        read(CELL + 'note: str = ""\n', {name: value}, texts=False)
    assert name != "note" or refused.value.hint.endswith("give it a text by -r note.")


def test_the_help_tells_what_is_allowed() -> None:
    """A range, choices, or that it must be given, at the end of the help, which keeps it for the reader."""
    declared = {p.name: p for p in declared_parameters(LIMITED)}
    assert declared["keep"].help == "how many to keep [1..100]"
    assert declared["keep"].allowed == Allowed(minimum=1, maximum=100)
    assert declared["share"].allowed == Allowed(maximum=0.9)
    assert declared["layout"].allowed == Allowed(choices=("tree", "flat"))
    assert [name for name, p in declared.items() if p.required] == ["least", "at"]
    assert declared["at"].as_dict()["default"] is None
    values = {"cluster": "main", "keep": 7, "share": 0.5, "layout": "tree", **GIVEN}
    assert read(LIMITED, dict(GIVEN)) == values


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": "0"}, "'keep' is 0, expected a whole number from 1 to 100"),
        ({"keep": "101"}, "'keep' is 101, expected a whole number from 1 to 100"),
        ({"share": "0.95"}, "'share' is 0.95, expected a number to 0.9"),
        ({"layout": "bush"}, "'layout' is 'bush', expected 'tree' or 'flat'"),
        ({"at": ""}, "'at' is missing, expected a text"),
        ({"least": None}, "'least' is missing, expected a whole number from 1"),
    ],
)
def test_what_is_not_allowed_is_refused(given: dict[str, str | None], message: str) -> None:
    """Out of range, none of the choices, or missing: refused by the parameter's name, with what was expected."""
    values = {name: value for name, value in {**GIVEN, **given}.items() if value is not None}
    with pytest.raises(InputError) as refused:
        read(LIMITED, values)
    assert message in refused.value.message


@pytest.mark.parametrize(
    "line",
    [
        "n: int = 1  # so many [1-100]",
        "n: int = 1  # so many [..]",
        "n: int = 1  # so many [a..b]",
        "n: int = 1  # so many [required]",
        "n: bool = True  # so many [1..2]",
        'n: str = ""  # one of [these]',
        'n: str = ""  # from to [1..2]',
    ],
)
def test_brackets_of_another_form_are_refused(line: str) -> None:
    """A limit that nobody would keep must not look like one."""
    with pytest.raises(InputError, match="the help of the parameter 'n' ends with"):
        declared_parameters(line)


def test_no_parameter_can_hold_a_secret() -> None:
    """A name of one is no declaration; whether something may be done to it is another question."""
    with pytest.raises(InputError) as refused:
        declared_parameters('api_token: str = ""')
    assert refused.value.kind is ErrorKind.SECRET_IN_PARAMETERS
    assert declared_parameters("rotate_password: bool = False")


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "hunter2"),
        ("note", "host=db password=hunter2"),
        ("note", "postgresql://me:hunter2@db/main"),
        ("note", "it is planted-1"),
        ("times", "password=hunter2"),
        ("cluster", "postgresql://me:hunter2@db/main"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(name: str, value: str, texts: bool) -> None:
    """By its name, by what it looks like, or because the environment holds it; the message names the parameter."""
    with pytest.raises(InputError, match=f"'{name}'") as refused:
        read(CELL + 'note: str = ""\n', {name: value}, texts=texts)
    assert refused.value.kind is ErrorKind.SECRET_IN_PARAMETERS
    told = refused.value.message + refused.value.hint
    assert "hunter2" not in told and "planted" not in told


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    """A misspelt name is an error that names the right one."""
    with pytest.raises(InputError, match="'dry_rnu'") as refused:
        read(CELL, {"dry_rnu": "true"})
    assert refused.value.hint == "Did you mean 'dry_run'?"
    with pytest.raises(InputError, match="'x'"):
        check_names(declared_parameters(CELL), ["x"])


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
