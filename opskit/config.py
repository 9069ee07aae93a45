"""``opskit.toml`` turned into `Settings`.

This module knows where the file is found and what may stand in it; it does not know what conninfo means, whether a
repository exists or a server answers. Below it nobody reads the environment.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs

from opskit.errors import ErrorKind, InputError, NotFoundError

CLUSTER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_URL_PASSWORD = re.compile(r"^[^:/?#]+://[^/@?#]*:[^/@?#]+@|[?&]password=", re.IGNORECASE)


class Checkpoint(StrEnum):
    """How the server gets to the checkpoint that a backup starts with: at once, or spread over minutes."""

    FAST = "fast"
    SPREAD = "spread"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """One ``[clusters.<name>]``.

    `wal_partial_seconds` is how often the beginning of the WAL segment that is filling is stored.
    """

    name: str
    conninfo: str = field(repr=False)  # it may hold a password, which is refused where it is used
    checkpoint: Checkpoint = Checkpoint.FAST
    wal_partial_seconds: float = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """``[postgres]``: where programs are looked for first, and who runs servers when opskit is root."""

    programs: tuple[Path, ...] = ()
    run_as: str | None = None


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
            _nearest(name, self.clusters, "Did you mean {}?")
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
    top = _Table(data, "", ("repository", "catalog", "reports", "postgres", "audit", "clusters"))
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
    clusters = top.table("clusters", None)
    return Settings(
        repository_url=_resolved_url(_without_password(url, "repository.url"), root, "file:///"),
        catalog_url=_resolved_url(
            _without_password(catalog.text("url") or "sqlite:///opskit.db", "catalog.url"),
            root,
            "sqlite:///",
        ),
        reports_directory=root / Path(reports.text("directory") or "reports").expanduser(),
        clusters={name: _cluster(name, clusters) for name in clusters.data},
        postgres=PostgresSettings(
            programs=postgres.paths("programs", root),
            run_as=postgres.text("run_as"),
        ),
        audit=_audit(top, root),
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


def _cluster(name: str, clusters: "_Table") -> ClusterSettings:
    check_cluster_name(name)
    table = clusters.table(name, ("conninfo", "checkpoint", "wal_partial_seconds"))
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
    )


def _audit(top: "_Table", root: Path) -> AuditSettings:
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


def _nearest(word: str, known: Any, sentence: str) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return sentence.format(f"'{near[0]}'") if near else ""


class _Table:
    """A TOML table with its path, which refuses keys that nobody reads."""

    def __init__(self, data: Any, path: str, known: tuple[str, ...] | None) -> None:
        if not isinstance(data, Mapping):
            raise InputError(
                f"the setting '{path}' is {data!r}, expected a table",
                ErrorKind.WRONG_SETTING,
                f"Write it as [{path}] with keys below it.",
            )
        self.data, self.path = data, path
        for key in data:
            if known is not None and key not in known:
                raise InputError(
                    f"unknown setting '{self._name(key)}'",
                    ErrorKind.UNKNOWN_SETTING,
                    _nearest(key, known, "Did you mean {}?") or f"Known here: {', '.join(known)}.",
                )

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def table(self, key: str, known: tuple[str, ...] | None) -> "_Table":
        return _Table(self.data.get(key, {}), self._name(key), known)

    def _value(self, key: str, fits: Callable[[Any], bool], expected: str) -> Any:
        value = self.data.get(key)
        if value is not None and not fits(value):
            raise InputError(
                f"the setting '{self._name(key)}' is {value!r}, expected {expected}",
                ErrorKind.WRONG_SETTING,
            )
        return value

    def text(self, key: str) -> str | None:
        value: str | None = self._value(key, lambda v: isinstance(v, str) and v != "", "a text")
        return value

    def seconds(self, key: str, default: float) -> float:
        value: float | None = self._value(
            key,
            lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= 3600,
            "a number of seconds up to 3600",
        )
        return default if value is None else value

    def texts(self, key: str) -> list[str]:
        value: list[str] | None = self._value(
            key,
            lambda v: isinstance(v, list) and all(isinstance(item, str) for item in v),
            "a list of texts",
        )
        return value or []

    def paths(self, key: str, root: Path) -> tuple[Path, ...]:
        return tuple(root / Path(path).expanduser() for path in self.texts(key))

    def choice(self, key: str, choices: type[Checkpoint], default: Checkpoint) -> Checkpoint:
        value = self.text(key)
        if value is None:
            return default
        if value not in list(choices):
            raise InputError(
                f"the setting '{self._name(key)}' is {value!r}, expected {' or '.join(map(repr, map(str, choices)))}",
                ErrorKind.WRONG_SETTING,
            )
        return choices(value)
