"""The audit log's entries and their chain, on whatever bytes there are: nothing crashes, nothing else passes."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opskit.evidence.keys import KeyFile, KeyRing, init_key
from opskit.evidence.log import export_lines, read_log
from opskit.evidence.verify import verify_files
from opskit.model.audit import START, AuditEntry, StoredEntry, canonical
from opskit.model.chain import FoundEntry, verify_chain
from tests.support.trails import operation, rechain, seal

texts = st.text(max_size=20)
values = st.one_of(
    texts, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.none()
)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)


def chain(count: int, key: KeyFile | None = None) -> list[StoredEntry]:
    """A log of that many entries."""
    entries: list[StoredEntry] = []
    for number in range(1, count + 1):
        previous = entries[-1].sha256 if entries else START
        entries.append(seal(number, previous, operation(number), key))
    return entries


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """A key."""
    path = tmp_path_factory.mktemp("keys") / "audit.key"
    init_key(path)
    return KeyFile(path)


@given(
    at=moments,
    what=texts,
    parameters=st.dictionaries(texts, values, max_size=4),
    number=st.integers(1),
)
def test_an_entry_reads_as_it_was_written(
    at: datetime, what: str, parameters: dict[str, object], number: int
) -> None:
    """Whatever an entry tells comes back from its text, and from a line of an exported log."""
    event = replace(operation(1), what=what, parameters=parameters, started_at=at)
    entry = AuditEntry(number=number, at=at, previous=START, event=event)
    stored = entry.stored()
    assert stored.read() == entry
    assert StoredEntry.from_line(stored.line(), number) == stored
    assert stored.text.isascii()


LINES = export_lines(chain(6))


@settings(max_examples=400)
@given(
    at=st.integers(0, len(LINES) - 1),
    length=st.integers(0, 3),
    new=st.binary(max_size=3),
)
def test_a_log_whose_bytes_were_changed_is_not_taken_for_whole(
    tmp_path_factory: pytest.TempPathFactory, at: int, length: int, new: bytes
) -> None:
    """Where a change of some bytes changes what an entry says, something is found; and reading never fails."""
    path = tmp_path_factory.getbasetemp() / "log.jsonl"
    path.write_bytes(LINES[:at] + new + LINES[at + length :])
    entries = read_log(path)
    verdict = verify_chain([FoundEntry.of(one) for one in entries])
    assert (not verdict.findings) is (entries == chain(6))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-1, 0, 1, 2, 3, 10**18]), st.sampled_from([START, "x", "0" * 63])
        ),
        max_size=6,
    )
)
def test_forged_numbers_and_links_are_found(forged: list[tuple[int, str]]) -> None:
    """Entries that were made up, with digests that fit, never make a chain behind the first."""
    entries = [seal(number, previous, operation(1), None) for number, previous in forged]
    verdict = verify_chain([FoundEntry.of(one) for one in entries])
    assert bool(verdict.findings) is (len(forged) > 1 or forged not in ([], [(1, START)]))


def test_a_key_that_came_later_vouches_for_what_was_there(key: KeyFile) -> None:
    """Unsigned entries are told of before the first signature, and a finding after it, or when there is none at all."""
    plain = chain(9)
    ring = KeyRing([key.public_key])

    def verify(entries: list[StoredEntry]) -> tuple[list[str], tuple[str, ...]]:
        verdict = verify_files([FoundEntry.of(one) for one in entries], None, keys=ring)
        return [finding.message for finding in verdict.findings], verdict.notes

    found, notes = verify(rechain(plain, 5, key))
    assert found == []
    assert "entries before entry 6 are not signed; its signature vouches for them" in notes
    found, _ = verify(rechain(rechain(plain, 0, key)[:5] + plain[5:], 5))
    assert found == ["entries 6 to 9 are not signed, though entry 1 is"]
    found, _ = verify(plain)
    assert found == ["entry 1 is not signed, nor is any other with this key"]


def test_an_exported_line_is_what_other_tools_digest(tmp_path: Path) -> None:
    """The digest of a line is that of its entry with keys sorted, without spaces, in ASCII."""
    for line in LINES.decode().splitlines():
        data = json.loads(line)
        text = json.dumps(data["entry"], sort_keys=True, separators=(",", ":"))
        assert canonical(data["entry"]) == text.encode()
        assert FoundEntry.of(StoredEntry.from_line(line, 1)).sha256 == data["sha256"]
