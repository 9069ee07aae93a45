"""Whom alarms are sent to: URLs of receivers, which hold passwords and tokens and never stand in ``opskit.toml``."""

import os
import stat
from datetime import timedelta
from pathlib import Path

from opskit.config._settings import AlarmSettings
from opskit.config._table import Table
from opskit.errors import ErrorKind, InputError

_VARIABLE = "OPSKIT_ALARM_URLS"


def read_alarms(top: Table, root: Path) -> AlarmSettings:
    """``[alarms]``, with paths taken from `root`; the URLs are not read yet."""
    table = top.table("alarms", ("urls_file", "repeat_after", "state"))
    file = table.text("urls_file")
    return AlarmSettings(
        urls_file=None if file is None else root / Path(file).expanduser(),
        repeat_after=table.hours("repeat_after") or timedelta(days=1),
        state=root / Path(table.text("state") or "opskit.alarms.json").expanduser(),
    )


def sends_alarms(alarms: AlarmSettings) -> bool:
    """Whether anybody is named that alarms could be sent to."""
    return alarms.urls_file is not None or bool(os.environ.get(_VARIABLE))


def alarm_urls(alarms: AlarmSettings) -> tuple[str, ...]:
    """The receivers: of ``$OPSKIT_ALARM_URLS``, parted by white space, and of the file, one a line, each once.

    Raises
    ------
    InputError
        The file cannot be read, or others than its owner may read it.
    """
    urls = os.environ.get(_VARIABLE, "").split()
    if alarms.urls_file is not None:
        lines = (line.strip() for line in _private_text(alarms.urls_file).splitlines())
        urls += [line for line in lines if line and not line.startswith("#")]
    return tuple(dict.fromkeys(urls))


def _private_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(
            f"the alarms' urls_file {str(path)!r} cannot be read: {(reason or '').lower()}",
            ErrorKind.WRONG_SETTING,
            "Write one URL of apprise a line into it, and 'chmod 600' it.",
        ) from None
    if mode & 0o077:
        raise InputError(
            f"the alarms' urls_file {str(path)!r} may be read by others: its mode is {mode:04o}",
            ErrorKind.SECRET_IN_SETTINGS,
            f"Make it private, 'chmod 600 {path}', and change what in it somebody may have read.",
        )
    return content
