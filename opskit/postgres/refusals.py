"""What a walsender's refusals mean, and what to do about them."""

from opskit.errors import ErrorKind, ServerError


def refusal(state: str, message: str, hint: str) -> ServerError:
    """The error for a refusal with that SQLSTATE and primary message; `hint` is the server's own."""
    kind, advice = _REFUSALS.get(state, (ErrorKind.SERVER_REFUSED, ""))
    for sign, meant, said in _SAID:
        if sign in message:
            kind, advice = meant, said
    return ServerError(f"the server refused: {message}", kind, advice or hint)


_SAID = (  # what only the message tells, of the states undefined_file and object_not_in_prerequisite_state
    (
        "has already been removed",
        ErrorKind.WAL_REMOVED,
        "Take a new backup: recovery cannot pass this gap.",
    ),
    (
        "the standby was promoted",
        ErrorKind.STANDBY_PROMOTED,
        "Take the backup again: the server is a primary by now.",
    ),
    (
        "WAL generated with",  # full_page_writes=off, with or without quotes
        ErrorKind.SERVER_REFUSED,
        "On the primary, set full_page_writes = on and run CHECKPOINT; then take the backup again.",
    ),
)
_REFUSALS = {
    "42710": (  # duplicate_object: the slot's name
        ErrorKind.BACKUP_RUNNING,
        "Wait until the other backup of this cluster has ended, or cancel it.",
    ),
    "53400": (  # configuration_limit_exceeded: all replication slots are in use
        ErrorKind.NO_SLOT,
        "Raise max_replication_slots, or drop a slot that nobody needs (pg_replication_slots).",
    ),
    "42501": (ErrorKind.REPLICATION_NOT_ALLOWED, "As a superuser: ALTER ROLE … REPLICATION."),
    "XX001": (  # data_corrupted: page checksums
        ErrorKind.SERVER_REFUSED,
        "The cluster has damaged pages, named in the server's log: find out which relations, and keep earlier backups.",
    ),
    "54000": (  # program_limit_exceeded: a name or link of more than 99 bytes
        ErrorKind.SERVER_REFUSED,
        "The server's tar format has 99 bytes for a link: move the tablespace to a place with a shorter path.",
    ),
    "58P01": (ErrorKind.SERVER_REFUSED, "The server lacks a file; its log tells which."),
}
