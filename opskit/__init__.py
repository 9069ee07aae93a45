"""PostgreSQL backups that you operate from a notebook, carry home, start anywhere, and can prove you can restore.

::

    import opskit
    main = opskit.cluster("main")
    main.backups()                                    # a DataFrame, newest first
    backup = main.create_backup(note="before migration")
    main.download(backup.name, "main.tar.zst")
    copy = main.restore("scratch/")
    with copy.started() as server:
        server.query("select count(*) from orders")   # a DataFrame

Names are loaded when they are first used, so that a command that needs no DataFrame does not wait for pandas.
"""

from opskit.model.shown import card_html
from opskit.version import __version__

TYPE_CHECKING = False  # typing's would have to be loaded, and PostgreSQL starts `opskit wal get` for every segment
if TYPE_CHECKING:
    from typing import Any

    from opskit.cluster import Cluster as Cluster
    from opskit.cluster import cluster as cluster
    from opskit.cluster import clusters as clusters
    from opskit.cluster import verify_audit as verify_audit
    from opskit.comparison import compare_clusters as compare_clusters
    from opskit.errors import Cancelled as Cancelled
    from opskit.errors import ConflictError as ConflictError
    from opskit.errors import ErrorKind as ErrorKind
    from opskit.errors import InputError as InputError
    from opskit.errors import IntegrityError as IntegrityError
    from opskit.errors import NotFoundError as NotFoundError
    from opskit.errors import OpskitError as OpskitError
    from opskit.errors import RecoveryError as RecoveryError
    from opskit.errors import ServerError as ServerError
    from opskit.errors import StoreError as StoreError
    from opskit.model.backup import BackupKind as BackupKind
    from opskit.model.backup import BaseBackup as BaseBackup
    from opskit.model.backup import Trigger as Trigger
    from opskit.model.lsn import Lsn as Lsn
    from opskit.model.operation import Operation as Operation
    from opskit.model.operation import OperationStatus as OperationStatus
    from opskit.runbooks import runbook as runbook

_PLACES = {
    "opskit.cluster": ("Cluster", "cluster", "clusters", "verify_audit"),
    "opskit.comparison": ("compare_clusters",),
    "opskit.errors": (
        "Cancelled",
        "ConflictError",
        "ErrorKind",
        "InputError",
        "IntegrityError",
        "NotFoundError",
        "OpskitError",
        "RecoveryError",
        "ServerError",
        "StoreError",
    ),
    "opskit.model.backup": ("BackupKind", "BaseBackup", "Trigger"),
    "opskit.model.lsn": ("Lsn",),
    "opskit.model.operation": ("Operation", "OperationStatus"),
    "opskit.runbooks": ("runbook",),
}
_WHERE = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [*_WHERE, "__version__"]


def _card(value: object) -> "str | None":
    # Whoever has a value came by here. What draws it is loaded when the first one is shown.
    from opskit.reports.cards import card

    return card(value)


card_html.drawn_by = _card


def __getattr__(name: str) -> "Any":
    if name not in _WHERE:
        raise AttributeError(f"module 'opskit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
