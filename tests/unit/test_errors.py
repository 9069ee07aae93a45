"""The errors: their codes, their way through other processes, and what they never tell."""

import pickle
from pathlib import Path

import pytest

from opskit import errors
from opskit.errors import (
    Cancelled,
    ConflictError,
    ErrorKind,
    InputError,
    IntegrityError,
    NotFoundError,
    OpskitError,
    RecoveryError,
    ServerError,
    StoreError,
    error_from_dict,
    error_of_exit,
    unexpected,
)

CODES = {
    OpskitError: 1,
    InputError: 2,
    NotFoundError: 3,
    ConflictError: 4,
    ServerError: 5,
    StoreError: 6,
    IntegrityError: 7,
    RecoveryError: 8,
    Cancelled: 130,
}


@pytest.mark.parametrize("cls", CODES)
def test_every_class_has_its_exit_code(cls: type[OpskitError]) -> None:
    """The exit codes are promised to scripts; a code leads back to its class."""
    assert cls.exit_code == CODES[cls]
    error = error_of_exit(CODES[cls], "it is gone", "Bring it back.")
    assert (type(error), error.message, error.hint) == (cls, "it is gone", "Bring it back.")


def test_no_class_is_forgotten() -> None:
    """Every class of the tree is in the table above."""
    found = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, OpskitError)
    }
    assert found == set(CODES)


@pytest.mark.parametrize("cls", CODES)
def test_an_error_goes_through_other_processes(cls: type[OpskitError]) -> None:
    """Pickled or as plain data, an error arrives with its class, kind, message and hint."""
    error = cls("'x' is gone", ErrorKind.OBJECT_NOT_FOUND, "Look for it.")
    for copy in (pickle.loads(pickle.dumps(error)), error_from_dict(error.as_dict())):
        assert type(copy) is cls
        assert (str(copy), copy.message) == ("'x' is gone", "'x' is gone")
        assert (copy.kind, copy.hint) == (ErrorKind.OBJECT_NOT_FOUND, "Look for it.")


def test_whether_a_retry_helps_is_kept() -> None:
    """A pickled store error still tells whether it is permanent."""
    copy = pickle.loads(pickle.dumps(StoreError("busy", permanent=False)))
    assert copy.permanent is False


def test_an_error_of_a_later_opskit_is_still_an_error() -> None:
    """Data with a class and kind that are not known yet becomes the root of the tree."""
    data = {"error": "FutureError", "kind": "future", "message": "new", "hint": ""}
    error = error_from_dict(data)
    assert (type(error), error.kind, error.message) == (OpskitError, ErrorKind.UNEXPECTED, "new")
    assert error_from_dict({}).message == ""
    assert type(error_of_exit(99, "new", "")) is OpskitError


@pytest.mark.parametrize(
    ("cls", "builtin"), [(InputError, ValueError), (NotFoundError, LookupError)]
)
def test_python_s_own_classes_catch_what_they_mean(
    cls: type[OpskitError], builtin: type[Exception]
) -> None:
    """A wrong call is a ValueError and a missing thing a LookupError, for callers that know nothing of opskit."""
    assert issubclass(cls, builtin)


def test_an_unexpected_error_tells_its_place_and_not_its_text() -> None:
    """What an unknown exception quotes may be a password: it is not told; where it arose in opskit is."""
    with pytest.raises(KeyError) as raised:
        error_from_dict_of_none()
    error = unexpected(raised.value)
    assert "planted" not in str(error.as_dict())
    assert error.message.startswith("unexpected KeyError")
    with pytest.raises(AttributeError) as inside:
        error_from_dict(None)  # type: ignore[arg-type]
    assert unexpected(inside.value).message.startswith(
        "unexpected AttributeError at opskit/errors.py:"
    )


def error_from_dict_of_none() -> None:
    """Fail with a secret in the text."""
    raise KeyError("password=planted")


def test_what_the_system_says_is_told(tmp_path: Path) -> None:
    """An error of the operating system holds no secret and says which file."""
    with pytest.raises(OSError) as raised:
        (tmp_path / "missing").read_text()
    error = unexpected(raised.value)
    assert (
        error.message
        == f"unexpected FileNotFoundError: no such file or directory '{tmp_path}/missing'"
    )
    assert error.kind is ErrorKind.UNEXPECTED
    assert error.hint
