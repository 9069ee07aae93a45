"""Where base backups are kept: volumes, records, and the archive that is downloaded. It knows no server.

A *volume* is one object of whole tar members under their final names, in independent zstd frames. A *record*,
``backup.json``, is written last: a backup without it does not exist. An *archive* is the volumes, concatenated.
``docs/format.md`` specifies every byte.
"""

from opskit.repository.archive import Archive
from opskit.repository.backups import Repository, Survey
from opskit.repository.volumes import Member, Volume
from opskit.repository.writer import BackupWriter

__all__ = ["Archive", "BackupWriter", "Member", "Repository", "Survey", "Volume"]
