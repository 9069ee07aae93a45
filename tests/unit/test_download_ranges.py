"""What a request asks for of a download, what has been handed over of it, and the text of a version."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import InputError
from opskit.jupyter._ranges import Coverage, Unsatisfiable, asked_range, names_tag
from opskit.model.lsn import Lsn
from opskit.operations.download_version import Version
from opskit.operations.download_wal import WalEnd

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=12)


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 100)),
        ("bytes=10-19", (10, 20)),
        ("Bytes=90-1000", (90, 100)),
        ("bytes=-30", (70, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=0-1,3-4", None),
        ("bytes=+1-2", None),
        ("bytes=1-" + "9" * 5000, None),
        ("lines=1-2", None),
    ],
)
def test_a_range_is_read(header: str | None, asked: tuple[int, int] | None) -> None:
    """One range of bytes is understood; what is malformed, or several at once, is as if nothing was asked."""
    assert asked_range(header, 100) == asked


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_none(header: str) -> None:
    """Where there are no such bytes, that is said."""
    with pytest.raises(Unsatisfiable):
        asked_range(header, 100)


def test_tags_are_compared() -> None:
    """A list of tags names a version or not; a weak one never does where bytes must be the same."""
    assert names_tag('"x", "v"', "v", strongly=True)
    assert names_tag("*", "v", strongly=True)
    assert names_tag('W/"v"', "v", strongly=False)
    assert not names_tag('W/"v"', "v", strongly=True)
    assert not names_tag("", "v", strongly=False)


@given(SPANS)
def test_coverage_counts_bytes_once(spans: list[tuple[int, int]]) -> None:
    """In whatever order and however often bytes were handed over: as many are counted as there are."""
    coverage, known = Coverage(), set[int]()
    for start, size in spans:
        coverage.add(start, start + size)
        known.update(range(start, start + size))
        assert coverage.total == len(known)
    for start in range(0, 60, 7):
        for stop in range(start + 1, 60, 9):
            assert coverage.is_whole(start, stop) == (set(range(start, stop)) <= known)


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**64 - 1), st.none() | st.integers(1, 2**32 - 1))
def test_a_version_is_read_as_it_was_written(timeline: int, lsn: int, at: int | None) -> None:
    """The text of a version says all of it."""
    stored_at = None if at is None else datetime.fromtimestamp(at, UTC)
    end = WalEnd(timeline=timeline, lsn=Lsn(lsn), partial_at=stored_at)
    for version in (Version(end=end, digest="0f" * 16), Version(end=None, digest="a0" * 16)):
        assert Version.parse(str(version)) == version


@pytest.mark.parametrize("text", ["", "1-2-3", "x" * 200, "1-2-3-" + "G" * 32, "١-2-3-" + "0" * 32])
def test_what_is_no_version_is_refused(text: str) -> None:
    """Anything else is refused, and quoted no further than it makes sense."""
    with pytest.raises(InputError) as refused:
        Version.parse(text)
    assert len(refused.value.message) < 130
