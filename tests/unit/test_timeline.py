"""Timelines as history files tell them."""

import pytest

from opskit.errors import IntegrityError
from opskit.model.lsn import Lsn
from opskit.model.timeline import Stretch, first_timeline, read_history

FILE = b"""\
# a comment, and an empty line

1\t0/3000148\tbefore 2026-11-22 14:03:05.123456+00
  2 \t0/5000000\tno recovery target specified
"""


def lsn(text: str) -> Lsn:
    """An address."""
    return Lsn.parse(text)


def test_a_history_file_gives_the_stretches_of_the_way() -> None:
    """Each line ends the stretch of an ancestor; the last stretch is the timeline's own, and open."""
    assert read_history(4, FILE).stretches == (
        Stretch(1, Lsn(0), lsn("0/3000148")),
        Stretch(2, lsn("0/3000148"), lsn("0/5000000")),
        Stretch(4, lsn("0/5000000"), None),
    )


def test_the_first_timeline_has_no_file() -> None:
    """It has one stretch without an end."""
    assert first_timeline() == read_history(1, b"")
    assert first_timeline().passes(1, 1 << 60)


def test_a_path_passes_an_address_on_the_timeline_that_it_takes_there() -> None:
    """The switch point is on both sides; an ancestor behind its switch, and a stranger, are not on the path."""
    history = read_history(4, FILE)
    assert history.passes(1, lsn("0/3000000")) and history.passes(1, lsn("0/3000148"))
    assert not history.passes(1, lsn("0/3000149"))
    assert history.passes(2, lsn("0/3000148")) and not history.passes(2, lsn("0/3000000"))
    assert not history.passes(3, lsn("0/4000000"))
    assert history.passes(4, lsn("FF/0"))


@pytest.mark.parametrize(
    ("address", "timeline"),
    [("0/0", 1), ("0/3000147", 1), ("0/3000148", 2), ("0/4FFFFFF", 2), ("0/5000000", 4)],
)
def test_a_byte_is_of_the_timeline_that_wrote_it(address: str, timeline: int) -> None:
    """The byte at a switch point is the first of the new timeline."""
    assert read_history(4, FILE).at(lsn(address)).timeline == timeline


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\t0/3000148\n2\n", "is not '<timeline> <LSN> <reason>'"),
        (b"one\t0/3000148\treason\n", "is not '<timeline> <LSN> <reason>'"),
        (b"\xff\xfe\n", "is not '<timeline> <LSN> <reason>'"),
        (b"2\t0/3000000\tx\n1\t0/4000000\tx\n", "expected rising ones"),
        (b"1\t0/3000000\tx\n1\t0/4000000\tx\n", "expected rising ones"),
        (b"3\t0/3000000\tx\n", "expected rising ones"),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, message: str) -> None:
    """What does not tell a way to timeline 3 is no history of it."""
    with pytest.raises(IntegrityError, match=message):
        read_history(3, content)
