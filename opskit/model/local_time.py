"""Times as people write them by a clock that they name."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from opskit.errors import InputError
from opskit.model.target import parse_time


def find_zone(name: str) -> tzinfo:
    """The time zone of a name such as ``Europe/Berlin``.

    Raises
    ------
    InputError
        This machine does not know it.
    """
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise InputError(
            f"the time zone {name!r} is not known here",
            hint="Name one like 'Europe/Berlin', or install the package tzdata.",
        ) from None


def parse_local_time(text: str, zone: tzinfo) -> datetime:
    """A time as it was written, in UTC; one without a zone of its own is by the clocks of `zone`.

    Raises
    ------
    InputError
        It is not a time, or the clocks of `zone` never showed it, or did so twice.
    """
    written = text.strip()
    for name in (" UTC", "UTC", " Z"):
        written = written.removesuffix(name) + "Z" if written.endswith(name) else written
    try:
        local = datetime.fromisoformat(written)
    except ValueError:
        local = None
    if local is None or local.tzinfo is not None:
        return parse_time(written)
    earlier, later = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if earlier == later:
        return earlier
    if earlier > later:  # by the rules of PEP 495, what the clocks skipped
        raise InputError(
            f"{zone} never had {written}: the clocks were put forward",
            hint="Write it in UTC, or with an offset like +01:00.",
        )
    raise InputError(
        f"{zone} had {written} twice: the clocks were put back",
        hint="Write it in UTC, or with an offset like +01:00.",
    )
