"""The file found, read and checked."""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.config._alarms import read_alarms
from opskit.config._settings import (
    AuditSettings,
    Checkpoint,
    ClusterSettings,
    FleetSettings,
    PostgresSettings,
    SchedulerSettings,
    Settings,
)
from opskit.config._table import Table
from opskit.errors import ErrorKind, InputError, NotFoundError
from opskit.model.increment import IncrementalRules
from opskit.model.retention import Retention

_TABLES = (
    "repository",
    "catalog",
    "reports",
    "postgres",
    "audit",
    "scheduler",
    "alarms",
    "fleet",
    "clusters",
)
CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_POSTGRESQL = re.compile(r"^postgres(?:ql)?(?:\+psycopg)?://", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"^[^:/?#]+://[^/@?#]*:[^/@?#]+@|[?&]password=", re.IGNORECASE)


def find_configuration(given: Path | None = None) -> Path:
    """The configuration file: `given`, ``$OPSKIT_CONFIG``, ``./opskit.toml``, or the user's.

    Raises
    ------
    NotFoundError
        There is none; the hint names the places.
    """
    named = given or (Path(value) if (value := os.environ.get("OPSKIT_CONFIG")) else None)
    if named is not None:
        if named.is_file():
            return named.absolute()
        raise NotFoundError(
            f"the configuration file {str(named)!r} does not exist",
            ErrorKind.CONFIGURATION_NOT_FOUND,
            "Give the path of an opskit.toml by --config or OPSKIT_CONFIG.",
        )

    import platformdirs  # `opskit wal get`, which is told where, starts without it

    local = Path("opskit.toml")
    user = platformdirs.user_config_path("opskit") / "opskit.toml"
    for place in (local, user):
        if place.is_file():
            return place.absolute()
    raise NotFoundError(
        "there is no opskit.toml",
        ErrorKind.CONFIGURATION_NOT_FOUND,
        f"Write one here or as {user}, name it by --config, or try 'opskit demo'.",
    )


def load_settings(given: Path | None = None) -> Settings:
    """Find, read and check the configuration.

    Raises
    ------
    NotFoundError
        There is no configuration file.
    InputError
        It is not TOML, or a key or value in it is not known; the message names the key, the hint the nearest known one.
    """
    file = find_configuration(given)
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{str(file)!r} is not valid TOML: {error}",
            ErrorKind.WRONG_SETTING,
            "Mend the line that the message names.",
        ) from None
    except OSError as error:
        raise InputError(
            f"{str(file)!r} cannot be read: {error.strerror}",
            ErrorKind.WRONG_SETTING,
            "Give the account that runs opskit the right to read it.",
        ) from None
    return settings_from(data, file)


def jupyter_user() -> str | None:
    """Who is at the keyboard, as JupyterHub tells the servers that it starts; `None` anywhere else.

    It is a claim, not a proof: whoever starts a process can set the environment. The account of the operating system
    is kept beside it.
    """
    return os.environ.get("JUPYTERHUB_USER") or None


def settings_from(data: Mapping[str, Any], file: Path | None = None) -> Settings:
    """Settings from the parsed content of a configuration; `file` anchors relative paths and is named in errors.

    Raises
    ------
    InputError
        As `load_settings`.
    """
    root = file.parent if file else Path.cwd()
    top = Table(data, "", _TABLES)
    repository = top.table("repository", ("url",))
    catalog = top.table("catalog", ("url",))
    reports = top.table("reports", ("directory",))
    postgres = top.table("postgres", ("programs", "run_as"))
    url = repository.text("url")
    if url is None:
        raise InputError(
            "the setting 'repository.url' is missing",
            ErrorKind.WRONG_SETTING,
            'Add url = "file:///srv/opskit" below [repository].',
        )
    catalog_url = _without_password(catalog.text("url") or "sqlite:///opskit.db", "catalog.url")
    clusters = top.table("clusters", None)
    return Settings(
        repository_url=_resolved_url(_without_password(url, "repository.url"), root, "file:///"),
        catalog_url=_resolved_url(catalog_url, root, "sqlite:///"),
        reports_directory=root / Path(reports.text("directory") or "reports").expanduser(),
        clusters={name: _cluster(name, clusters) for name in clusters.data},
        postgres=PostgresSettings(
            programs=postgres.paths("programs", root),
            run_as=postgres.text("run_as"),
        ),
        audit=_audit(top, root),
        scheduler=_scheduler(top),
        alarms=read_alarms(top, root),
        fleet=_fleet(top, catalog_url),
        file=file,
    )


def check_cluster_name(name: str) -> str:
    """The name, if a cluster may have it.

    Raises
    ------
    InputError
        It is not of the form that is safe in paths and URLs.
    """
    if CLUSTER_NAME.fullmatch(name) is None:
        raise InputError(
            f"the cluster name {name!r} is not of the form [a-z0-9][a-z0-9_-]{{0,62}}",
            hint="Use lower-case letters, digits, '-' and '_', at most 63, and start with a letter or digit.",
        )
    return name


def _cluster(name: str, clusters: "Table") -> ClusterSettings:
    check_cluster_name(name)
    table = clusters.table(
        name,
        (
            "conninfo",
            "checkpoint",
            "wal_partial_seconds",
            "retention",
            "schedule",
            "incremental",
            "stale_after",
        ),
    )
    conninfo = table.text("conninfo")
    if conninfo is None:
        raise InputError(
            f"the setting '{table.path}.conninfo' is missing",
            ErrorKind.WRONG_SETTING,
            f'Add conninfo = "service={name}" or "host=… user=…" below [{table.path}].',
        )
    return ClusterSettings(
        name=name,
        conninfo=conninfo,
        checkpoint=table.choice("checkpoint", Checkpoint, Checkpoint.FAST),
        wal_partial_seconds=table.seconds("wal_partial_seconds", 10),
        retention=read_retention(table.data["retention"], f"{table.path}.retention")
        if "retention" in table.data
        else None,
        schedule=_schedule(table),
        incremental=_incremental(table),
        stale_after=table.hours("stale_after"),
    )


def _incremental(cluster: Table) -> IncrementalRules:
    table = cluster.table("incremental", ("increments", "days", "percent"))
    rules = IncrementalRules()
    increments, days = table.count("increments", at_least=0), table.count("days", at_least=1)
    percent = table.count("percent", at_least=1)
    return IncrementalRules(
        increments=rules.increments if increments is None else increments,
        days=rules.days if days is None else timedelta(days=days),
        percent=percent or rules.percent,
    )


def _schedule(cluster: Table) -> str | None:
    schedule = cluster.text("schedule")
    if schedule is None:
        return None
    from cronsim import CronSim, CronSimError  # `opskit wal get` starts without it

    try:
        if len(schedule.split()) != 5:  # CronSim knows seconds, too
            raise CronSimError("expected five fields")
        next(CronSim(schedule, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        raise InputError(
            f"the setting '{cluster.path}.schedule' is {schedule!r}: {str(error) or 'it never comes'}",
            ErrorKind.WRONG_SETTING,
            "Write minute, hour, day, month and weekday as in a crontab, in UTC: '0 2 * * *' is 02:00 every day.",
        ) from None
    return " ".join(schedule.split())


def _scheduler(top: Table) -> SchedulerSettings:
    table = top.table("scheduler", ("at_once", "jitter_minutes"))
    minutes = table.count("jitter_minutes", at_least=0)
    return SchedulerSettings(
        at_once=table.count("at_once", at_least=1) or 1, jitter=timedelta(minutes=minutes or 0)
    )


def _fleet(top: Table, catalog_url: str) -> FleetSettings:
    table = top.table("fleet", ("queue", "jobs", "store_limit"))
    queue = table.text("queue")
    if queue is not None:
        _without_password(queue, "fleet.queue")
        if not _POSTGRESQL.match(queue):
            raise InputError(
                f"the setting 'fleet.queue' is {queue!r}, expected a URL of PostgreSQL",
                ErrorKind.WRONG_SETTING,
                'Write queue = "postgresql://role@host/database", or leave it out: it is the catalog\'s then.',
            )
    elif _POSTGRESQL.match(catalog_url):
        queue = catalog_url
    return FleetSettings(
        queue_url=None if queue is None else _POSTGRESQL.sub("postgresql://", queue),
        jobs=table.count("jobs", at_least=1) or 1,
        store_limit=table.count("store_limit", at_least=1),
    )


def read_retention(data: Any, path: str = "retention") -> Retention:
    """A policy from the table that ``opskit.toml`` would hold: ``{"daily": 7, "max_age": "90d"}``.

    Raises
    ------
    InputError
        A key or value is not known, or no limit is set; the message names it below `path`.
    """
    limits = ("daily", "weekly", "monthly", "on_demand")
    table = Table(data, path, (*limits, "min_backups", "max_age"))
    if not table.data.keys() & {*limits, "max_age"}:
        raise InputError(
            f"the setting '{table.path}' sets no limit",
            ErrorKind.WRONG_SETTING,
            "Write for example retention = { daily = 7, weekly = 4, monthly = 3, on_demand = 3 }.",
        )
    return Retention(
        **{limit: table.count(limit, at_least=0) for limit in limits},
        min_backups=table.count("min_backups", at_least=1) or 1,
        max_age=table.days("max_age"),
    )


def _audit(top: "Table", root: Path) -> AuditSettings:
    known = ("key", "public_keys", "timestamp_authority", "timestamp_certificates")
    table = top.table("audit", known)
    key, authority = table.text("key"), table.text("timestamp_authority")
    if authority is not None:
        _without_password(authority, "audit.timestamp_authority")
        if not re.match(r"https?://[^/]", authority):
            raise InputError(
                f"the setting 'audit.timestamp_authority' is {authority!r}, expected an http or https URL",
                ErrorKind.WRONG_SETTING,
            )
    return AuditSettings(
        key=None if key is None else root / Path(key).expanduser(),
        public_keys=table.paths("public_keys", root),
        timestamp_authority=authority,
        timestamp_certificates=table.paths("timestamp_certificates", root),
    )


def _without_password(url: str, key: str) -> str:
    if _URL_PASSWORD.search(url):
        raise InputError(
            f"the setting '{key}' holds a password",
            ErrorKind.SECRET_IN_SETTINGS,
            "Take it out; passwords live in ~/.pgpass, in the service file or in the environment.",
        )
    return url


def _resolved_url(url: str, root: Path, scheme: str) -> str:
    """`url` with the relative path after `scheme` (``sqlite:///opskit.db``) made absolute."""
    path = url.removeprefix(scheme)
    if path == url or not path or path.startswith(("/", ":")):
        return url
    if (
        scheme == "file:///"
    ):  # file URLs are absolute by definition: only './' and '../' mark a relative one
        return url if not path.startswith(".") else (root / path).resolve().as_uri()
    return f"{scheme}{root / path}"
