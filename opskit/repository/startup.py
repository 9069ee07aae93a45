"""The files that make an unpacked snapshot start anywhere without opskit: its README and ``conf/``.

Every line here has been tried with the PostgreSQL versions that opskit supports. The configuration keeps a copy away
from production: no archiving, no subscriptions, no network, a socket for its owner alone.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from opskit.model.lsn import Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a snapshot's README and configuration tell of the cluster that it was taken from."""

    backup: str
    cluster: str
    system_identifier: str
    postgresql_version: str
    build: str
    superuser: str
    started_at: datetime
    start_lsn: Lsn
    timeline: int
    wal_segment_bytes: int
    recovery_settings: Mapping[str, str]
    noted_settings: Mapping[str, str]

    @property
    def major(self) -> str:
        """The major version, as the README names it."""
        return self.postgresql_version.split(".")[0]


def startup_files(origin: Origin) -> dict[str, bytes]:
    """The files by their paths below ``snapshot/``, in the order in which they are stored."""
    return {
        "README": _readme(origin).encode(),
        "conf/postgresql.conf": _postgresql_conf(origin).encode(),
        "conf/pg_hba.conf": _HBA.encode(),
        "conf/pg_ident.conf": b"# No user name maps: pg_hba.conf here trusts the owner of the copy.\n",
    }


def _readme(origin: Origin) -> str:
    user = shlex.quote(origin.superuser)
    return f"""\
A copy of the PostgreSQL cluster "{origin.cluster}"
{"=" * (36 + len(origin.cluster))}

It needs PostgreSQL {origin.major} (taken from {origin.postgresql_version}); no other major version can start it.

    backup              {origin.backup}
    taken at            {origin.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC
    system identifier   {origin.system_identifier}
    timeline, LSN       {origin.timeline}, {origin.start_lsn}
    server              {origin.build}


Start it
--------
In this folder (the one that holds this README), as an ordinary user who owns these files, not as root:

    postgres -D conf

and in another terminal:

    psql postgres -U {user}

Stop it with Ctrl-C in the first. The programs of PostgreSQL {origin.major} must be on the PATH; Debian keeps them in
/usr/lib/postgresql/{origin.major}/bin. The folder data/backup/{origin.backup} may be moved anywhere as a whole.

If another server already uses the port:      PGPORT=5433 postgres -D conf
                                              PGPORT=5433 psql postgres -U {user}
If the socket's folder is not writable:       postgres -D conf -k /tmp
                                              psql -h /tmp postgres -U {user}

Nothing is sent to the cluster that this was copied from, nor to those that it subscribes to: archiving is off,
subscriptions do not run, and the copy listens on a Unix socket that only its owner may use. Before you drop a
subscription here, ALTER SUBSCRIPTION … DISABLE, then … SET (slot_name = NONE): else its publisher drops the slot that
the original uses. conf/postgresql.auto.conf.source is what the server's ALTER SYSTEM had set; it is not read.


Go to a point in time
---------------------
The snapshot by itself starts as it was when the backup ended. Where ../wal/ holds WAL segments, the copy can go on
from there, to any moment that they cover. Before the first start:

    1. in conf/postgresql.conf, set recovery_target_time (take away the '#')
    2. touch data/recovery.signal
    3. postgres -D conf

Without a target it goes to the end of the WAL in ../wal/. Look into the server's output for what it reached: PostgreSQL
cannot tell a missing segment from the end.

Not on the machine that this was copied from, if a tablespace was created there since the backup began: PostgreSQL makes
it again at the same path, and would write into the original's files. 'opskit start' refuses that, and pg_waldump
--rmgr=Tablespace shows such a record in data/pg_wal or ../wal.


Check it
--------
    pg_verifybackup data            before the first start: every file is there and has its checksum


What is here
------------
    conf/            postgresql.conf, pg_hba.conf and pg_ident.conf of the copy
    data/            the base backup, with the WAL that makes it consistent
    tablespaces/     the tablespaces, by number; data/pg_tblspc links to them
    ../wal/          the WAL archive
"""


def _postgresql_conf(origin: Origin) -> str:
    segment_megabytes = origin.wal_segment_bytes >> 20
    required = "\n".join(
        f"{name} = {value}" for name, value in sorted(origin.recovery_settings.items())
    )
    noted = "\n".join(
        f"# {name} = {_quoted(value)}" for name, value in sorted(origin.noted_settings.items())
    )
    return f"""\
# A copy of the PostgreSQL cluster "{origin.cluster}", backup {origin.backup}. Start it from the folder above this one:
#     postgres -D conf

data_directory = 'data'                 # taken from where the server is started
cluster_name = {_quoted(f"copy of {origin.cluster}"[:63])}

# Where it comes from: ask the running copy with SHOW opskit.backup
opskit.cluster = {_quoted(origin.cluster)}
opskit.backup = {_quoted(origin.backup)}
opskit.superuser = {_quoted(origin.superuser)}

# Away from production
listen_addresses = ''
unix_socket_permissions = 0700
archive_mode = off
max_logical_replication_workers = 0     # subscriptions would take from the publisher's slot what the original is to get

# Recovery. Nothing here counts until data/recovery.signal exists; see README.
restore_command = 'cp ../../wal/%f "%p"'
recovery_target_action = 'promote'
include_if_exists = 'target.conf'       # where 'opskit restore --at' and its like write their target
#recovery_target_time = '{origin.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00'

# At least as the server's were: recovery demands it
{required}

# In proportion to WAL segments of {segment_megabytes} MB, as initdb sets them
min_wal_size = {5 * segment_megabytes}MB
max_wal_size = {64 * segment_megabytes}MB

# What else the server had set that may change what you see; take away the '#' where you need it
{noted or "# (nothing)"}
"""


_HBA = """\
# The socket's permissions (postgresql.conf) let only the owner of the copy in; so nobody is asked for a password.
# TYPE  DATABASE     USER  ADDRESS  METHOD
local   all          all            trust
local   replication  all            trust
"""


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", " ") + "'"
