"""Preflight: would a backup of this cluster succeed, and what is to be done where it would not."""

from collections.abc import Iterator
from dataclasses import dataclass

from opskit.config import ClusterSettings
from opskit.errors import OpskitError
from opskit.operations.monitor import SilentMonitor
from opskit.postgres.connection import Connection, connect
from opskit.postgres.facts import ClusterFacts, backup_is_running, probe
from opskit.postgres.replication import ReplicationConnection
from opskit.repository import Repository

_WALSENDERS = 2
_SLOTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what, whether it is well, what was seen, and what to do where it is not."""

    name: str
    passed: bool
    message: str
    hint: str = ""


def check_cluster(cluster: ClusterSettings, repository: Repository) -> list[Finding]:
    """Look at everything that a backup of `cluster` needs.

    Returns
    -------
    Findings in the order in which they were made; what depends on a failed one is not looked at.

    Effects
    -------
    Puts a small object into the repository and removes it; on the server, reads only.
    """
    return [*_server(cluster, repository), *_repository(cluster, repository)]


def _server(cluster: ClusterSettings, repository: Repository) -> Iterator[Finding]:
    try:
        connection = connect(cluster.conninfo)
    except OpskitError as error:
        yield _failed("server", error)
        return
    try:
        facts = probe(connection)
        where = connection.sql.info.host
        standby = ", a standby" if facts.in_recovery else ""
        yield Finding(
            name="server",
            passed=True,
            message=f"PostgreSQL {facts.postgresql_version} at {where}{standby}",
        )
        yield _replication(connection)
        yield from _room(facts)
        yield _alone(connection)
        yield _checksums(facts)
        yield _name(cluster, repository, facts)
    except OpskitError as error:
        yield _failed("server", error)
    finally:
        connection.close()


def _replication(connection: Connection) -> Finding:
    try:
        with ReplicationConnection(connection.parameters, SilentMonitor().check) as replication:
            identity = replication.identify_system()
    except OpskitError as error:
        return _failed("replication", error)
    return Finding(
        name="replication",
        passed=True,
        message=f"allowed; system identifier {identity.system_identifier}, timeline {identity.timeline}",
    )


def _room(facts: ClusterFacts) -> Iterator[Finding]:
    for name, (used, allowed), needed, setting in (
        ("walsenders", facts.walsenders, _WALSENDERS, "max_wal_senders"),
        ("replication slots", facts.slots, _SLOTS, "max_replication_slots"),
    ):
        yield Finding(
            name=name,
            passed=allowed - used >= needed,
            message=f"{allowed - used} of {allowed} free, a backup takes {needed}",
            hint="" if allowed - used >= needed else f"Raise {setting}, or end what uses them.",
        )


def _alone(connection: Connection) -> Finding:
    running = backup_is_running(connection)
    if running is not None:
        return _failed("no other backup", running)
    return Finding(name="no other backup", passed=True, message="no other backup is running")


def _checksums(facts: ClusterFacts) -> Finding:
    message = "on: the server checks every page that it sends"
    if not facts.data_checksums:
        message = "off: damaged pages are not noticed; pg_checksums --enable turns them on, with the server stopped"
    return Finding(name="data checksums", passed=True, message=message)


def _name(cluster: ClusterSettings, repository: Repository, facts: ClusterFacts) -> Finding:
    try:
        repository.check_claim(cluster.name, facts.system_identifier, facts.major)
    except OpskitError as error:
        return _failed("cluster name", error)
    return Finding(
        name="cluster name",
        passed=True,
        message=f"{cluster.name!r} is this cluster's in the repository",
    )


def _repository(cluster: ClusterSettings, repository: Repository) -> Iterator[Finding]:
    try:
        repository.writable()
        survey = repository.survey(cluster.name)
    except OpskitError as error:
        yield _failed("repository", error)
        return
    count = f"{len(survey.backups)} backup{'s'[: len(survey.backups) != 1]}"
    yield Finding(
        name="repository",
        passed=True,
        message=f"{repository.url} is writable and holds {count} of {cluster.name!r}",
    )
    for name, damage in survey.damaged.items():
        yield _failed(f"record {name}", damage)


def _failed(name: str, error: OpskitError) -> Finding:
    return Finding(name=name, passed=False, message=error.message, hint=error.hint)
