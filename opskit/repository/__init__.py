"""Where base backups are kept: volumes, records, and the archive that is downloaded. It knows no server.

A *volume* is one object of whole tar members under their final names, in independent zstd frames. A *record*,
``backup.json``, is written last: a backup without it does not exist. An *archive* is the volumes, concatenated.
``docs/format.md`` specifies every byte.

Names are loaded when they are first used: PostgreSQL starts `opskit wal get` for every segment, which needs few.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.repository.archive import Archive as Archive
    from opskit.repository.backups import Repository as Repository
    from opskit.repository.backups import Survey as Survey
    from opskit.repository.claims import Claims as Claims
    from opskit.repository.volumes import Member as Member
    from opskit.repository.volumes import Volume as Volume
    from opskit.repository.writer import BackupWriter as BackupWriter

_WHERE = {
    "Archive": "archive",
    "BackupWriter": "writer",
    "Claims": "claims",
    "Member": "volumes",
    "Repository": "backups",
    "Survey": "backups",
    "Volume": "volumes",
}

__all__ = ["Archive", "BackupWriter", "Claims", "Member", "Repository", "Survey", "Volume"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
