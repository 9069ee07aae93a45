"""What ``opskit.toml`` says, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from opskit.config._table import nearest
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.model.increment import IncrementalRules
from opskit.model.retention import Retention


class Checkpoint(StrEnum):
    """How the server gets to the checkpoint that a backup starts with: at once, or spread over minutes."""

    FAST = "fast"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """One ``[clusters.<name>]``.

    `wal_partial_seconds` is how often the beginning of the WAL segment that is filling is stored. Without a `retention`
    nothing is ever removed. `schedule` is when backups are due: five fields of cron, in UTC. `stale_after` is the age
    from which on the newest backup is too old; by default that follows from the schedule. `incremental` is when a
    backup is a full one although an increment could be taken.
    """

    name: str
    conninfo: str = field(repr=False)  # it may hold a password, which is refused where it is used
    checkpoint: Checkpoint = Checkpoint.FAST
    wal_partial_seconds: float = 10
    retention: Retention | None = None
    schedule: str | None = None
    stale_after: timedelta | None = None
    incremental: IncrementalRules = field(default_factory=IncrementalRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """``[postgres]``: where programs are looked for first, and who runs servers when opskit is root."""

    programs: tuple[Path, ...] = ()
    run_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """``[scheduler]``: how many runbooks it runs at once, and by how much at most it begins one later than its time."""

    at_once: int = 1
    jitter: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """``[fleet]``: the queue that workers on many hosts share, and how much they do.

    `queue_url` is a URL of libpq's, `None` where there is none to be shared; `jobs` is how many runbooks one worker
    runs at once, `store_limit` how many all of them together run into the repository's store.
    """

    queue_url: str | None = None
    jobs: int = 1
    store_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """``[audit]``: what signs and stamps the evidence, and what checks it.

    `key` is the private key that signs; `public_keys` are trusted beside its own public half. `timestamp_certificates`
    are the roots that the authority's certificate leads to.
    """

    key: Path | None = None
    public_keys: tuple[Path, ...] = ()
    timestamp_authority: str | None = None
    timestamp_certificates: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """``[alarms]``: whom to tell when something failed or nothing is heard.

    `urls_file` holds the receivers' URLs, which are secrets; `state` what they were told already, and what goes on
    being wrong is told again after `repeat_after`.
    """

    urls_file: Path | None = None
    repeat_after: timedelta = timedelta(days=1)
    state: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``opskit.toml`` says. Relative paths in it are taken from the folder of the file.

    `file` is `None` for settings that were made in a program.
    """

    repository_url: str
    catalog_url: str
    reports_directory: Path
    clusters: Mapping[str, ClusterSettings] = field(default_factory=dict)
    postgres: PostgresSettings = field(default_factory=PostgresSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    file: Path | None = None

    def cluster(self, name: str) -> ClusterSettings:
        """The settings of the cluster `name`.

        Raises
        ------
        NotFoundError
            No cluster of that name is configured.
        """
        if name in self.clusters:
            return self.clusters[name]
        known = ", ".join(sorted(self.clusters)) or "none"
        raise NotFoundError(
            f"no cluster {name!r} is configured",
            ErrorKind.CLUSTER_NOT_FOUND,
            nearest(name, self.clusters, "Did you mean {}?")
            or f"Configured in {self.file or 'these settings'}: {known}.",
        )

    def only_cluster(self, name: str | None = None) -> ClusterSettings:
        """The settings of the cluster `name`, or of the only one that there is; errors as `cluster`.

        Raises
        ------
        InputError
            No name was given, and there is not exactly one cluster.
        """
        if name is None and len(self.clusters) != 1:
            raise InputError(
                f"{len(self.clusters)} clusters are configured, and none is named",
                hint=f"Name one by --cluster: {', '.join(sorted(self.clusters)) or 'configure it first'}.",
            )
        return self.cluster(next(iter(self.clusters)) if name is None else name)
