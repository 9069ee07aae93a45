"""How a failure is told: the same through the API and through the command."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import ErrorKind, OpskitError
from tests.support.command import run_command

Failure = TypeVar("Failure", bound=OpskitError)


def assert_fails(
    work: Callable[[], object], error: type[Failure], kind: ErrorKind, *said: str
) -> Failure:
    """It raises that error of that kind, in the form that every error has, with a hint, and saying all of `said`."""
    with pytest.raises(error) as raised:
        work()
    failure = raised.value
    assert failure.kind is kind, failure
    assert failure.message[:1] == failure.message[:1].lower()
    assert not failure.message.endswith(".")
    assert "\n" not in failure.message
    assert failure.hint, failure
    for words in said:
        assert words in failure.message, failure.message
    return failure


def assert_command_fails(settings: Settings, failure: OpskitError, *arguments: str) -> None:
    """The command tells the same failure on stderr, prints nothing, and ends with its exit code."""
    done = run_command(settings, *arguments)
    assert done.returncode == failure.exit_code, done.stderr
    assert done.stdout == ""
    message, hint = done.stderr.splitlines()
    assert message.startswith("opskit: ")
    assert hint == f"HINT: {' '.join(failure.hint.split())}"


def assert_backup_fails(
    cluster: Cluster, error: type[Failure], kind: ErrorKind, *said: str, command: bool = True
) -> Failure:
    """A backup fails so, through the API and the command; nothing is listed, and the failure is recorded."""
    before = cluster.repository.backups(cluster.name)
    failure = assert_fails(cluster.create_backup, error, kind, *said)
    [last, *_] = cluster.catalog.operations(cluster=cluster.name)
    assert last.error == failure.as_dict()
    if command:
        assert_command_fails(cluster.settings, failure, "backup", cluster.name)
    assert cluster.repository.backups(cluster.name) == before
    return failure
