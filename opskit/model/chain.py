"""Whether the entries of an audit log are as they were written: a pure function, which names the first that is not.

What a chain of digests can show, and what only a signature, a report or a head that was noted elsewhere can, is told in
``docs/format.md``.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from opskit.model.audit import (
    START,
    AuditEntry,
    Head,
    Signature,
    SignatureState,
    StoredEntry,
    digest,
)

CheckSignature = Callable[[bytes, Signature], SignatureState]


class Fault(StrEnum):
    """What became of an entry or a report."""

    EDITED = "edited"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    SWAPPED = "swapped"
    RESIGNED = "signed with another key"
    UNSIGNED = "not signed"
    NOT_ENTERED = "not entered"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """Something that is not as it was written.

    `subject` names it: ``entry 17``, ``entries 17 to 20``, or a report by its path. `number` is where in the log it is,
    as near as that is known.
    """

    fault: Fault
    subject: str
    number: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A head that somebody else keeps: `name` is the report that was filed after it."""

    name: str
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainVerdict:
    """What is wrong with a chain, the first entry first, and in `notes` what could not be looked at."""

    findings: tuple[AuditFinding, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry as it was found, what it says if it can be read, and the digest that its text really has."""

    stored: StoredEntry
    entry: AuditEntry | None
    sha256: str

    @classmethod
    def of(cls, stored: StoredEntry) -> "FoundEntry":
        """The entry, read and digested."""
        return cls(stored, stored.read(), digest(stored.text))

    @property
    def number(self) -> int:
        """The number that the entry gives itself, or of its place when it cannot be read."""
        return self.stored.number if self.entry is None else self.entry.number


@dataclass(frozen=True, slots=True)
class _Break:
    first: int
    last: int
    fault: Fault
    clause: str


def verify_chain(
    found: Sequence[FoundEntry],
    *,
    check: CheckSignature | None = None,
    witnesses: Iterable[Witness] = (),
) -> ChainVerdict:
    """Look at every entry, every link, and every signature.

    Parameters
    ----------
    found
        All entries, in the order in which they were found.
    check
        What a signature over a payload is worth; `None` when no public key is known.
    witnesses
        Heads that reports keep.
    """
    chain = _Chain(found)
    chain.look_at_numbers()
    chain.look_at_contents()
    notes = chain.look_at_signatures(check)
    chain.look_at_links()
    chain.look_at_witnesses(sorted(witnesses, key=lambda w: (w.head.number, w.name)))
    return ChainVerdict(findings=tuple(_told(chain.breaks)), notes=tuple(notes))


class _Chain:
    """The entries by number, and the breaks that were found so far."""

    def __init__(self, found: Sequence[FoundEntry]) -> None:
        self.found = found
        self.by_number: dict[int, list[FoundEntry]] = {}
        for one in found:
            self.by_number.setdefault(one.number, []).append(one)
        self.last = max(self.by_number, default=0)
        self.breaks: list[_Break] = []
        self._single: set[int] = set()
        self._ranges: list[_Break] = []

    def add(self, first: int, fault: Fault, clause: str, last: int | None = None) -> None:
        found = _Break(first, first if last is None else last, fault, clause)
        self.breaks.append(found)
        if found.last == first:
            self._single.add(first)
        else:
            self._ranges.append(found)

    def is_broken(self, first: int, last: int) -> bool:
        """Whether something was found already between these numbers."""
        if any(found.first <= last and found.last >= first for found in self._ranges):
            return True
        few = range(first, last + 1) if last - first < len(self._single) else self._single
        return any(number in self._single and first <= number <= last for number in few)

    def look_at_numbers(self) -> None:
        """Each number from 1 on once, and in order."""
        expected = 1
        for number in sorted(self.by_number):
            if number > expected:
                self.add(expected, Fault.REMOVED, "missing", number - 1)
            expected = max(expected, number + 1)
        for number, same in self.by_number.items():
            if len(same) > 1:
                self.add(number, Fault.INSERTED, f"there {len(same)} times")
        numbers = list(Counter(one.number for one in self.found))
        for number, stands in zip(sorted(numbers), numbers, strict=True):
            if number != stands:
                self.add(number, Fault.REORDERED, f"not in its place: entry {stands} stands there")
                break

    def look_at_contents(self) -> None:
        """Each can be read, and is what its own digest says."""
        for one in self.found:
            if one.entry is None:
                self.add(one.number, Fault.EDITED, "not an entry in the canonical form")
            elif one.sha256 != one.stored.sha256:
                self.add(one.number, Fault.EDITED, "not what the digest beside it says")

    def look_at_signatures(self, check: CheckSignature | None) -> list[str]:
        """From the first valid signature on, each entry has one."""
        signed = [one for one in self.found if one.entry is not None and one.entry.signature]
        if check is None:
            return [_unchecked(len(signed))] if self.found else []
        first: int | None = None
        unsigned = 0
        for one in self.found:
            if one.entry is None or self.is_broken(one.number, one.number):
                continue
            signature = one.entry.signature
            if signature is None:
                if first is not None:
                    self.add(one.number, Fault.UNSIGNED, f"not signed, though entry {first} is")
                unsigned += 1
                continue
            state = check(one.entry.payload(), signature)
            if state is SignatureState.VALID:
                first = one.number if first is None else first
            elif state is SignatureState.WRONG:
                self.add(one.number, Fault.EDITED, "not what was signed")
            else:
                clause = f"signed with another key, {signature.keyid[:16]!r}"
                self.add(one.number, Fault.RESIGNED, clause)
        return self._unsigned(first, unsigned)

    def _unsigned(self, first: int | None, unsigned: int) -> list[str]:
        if first is None and unsigned:
            self.add(1, Fault.UNSIGNED, "not signed, nor is any other with this key")
        if first is not None and first > 1 and not self.is_broken(1, first):
            return [f"entries before entry {first} are not signed; its signature vouches for them"]
        return []

    def look_at_links(self) -> None:
        """Each names the digest of the one before."""
        for one in self.found:
            number = one.number
            if one.entry is None or self.is_broken(number - 1, number):
                continue
            if one.entry.previous in self._digests(number - 1):
                continue
            follows = any(
                after.entry is not None and after.entry.previous == one.sha256
                for after in self.by_number.get(number + 1, ())
            )
            if number == 1:
                self.add(1, Fault.REMOVED, "not the first: it follows another one")
            elif follows:
                self.add(
                    number - 1, Fault.EDITED, f"not the one that entry {number} was written after"
                )
            elif number < self.last:
                self.add(number, Fault.EDITED, "not one that its neighbours know")
            else:
                clause = "at odds with each other: one of them was replaced"
                self.add(number - 1, Fault.EDITED, clause, number)

    def look_at_witnesses(self, witnesses: Iterable[Witness]) -> None:
        """Each head that a report keeps is in the log, and at its place."""
        agreed = 0
        for witness in witnesses:
            number = witness.head.number
            if number > self.last:
                clause = f"missing: the report {witness.name!r} was filed after entry {number}"
                self.add(self.last + 1, Fault.TRUNCATED, clause, number)
                return
            if witness.head.sha256 in self._digests(number):
                agreed = number
            elif self.is_broken(agreed + 1, number):
                return  # what is wrong there is told already, and all later heads differ too
            else:
                clause = f"not those that the report {witness.name!r} was filed after"
                self.add(min(agreed + 1, number), Fault.EDITED, clause, number)
                return

    def _digests(self, number: int) -> set[str]:
        """The digests that a reference to this number may have: what is there, or was before an edit that is told."""
        if number == 0:
            return {START}
        same = self.by_number.get(number, ())
        digests = {one.sha256 for one in same}
        if self.is_broken(number, number):
            digests |= {one.stored.sha256 for one in same}
        return digests


def _unchecked(signed: int) -> str:
    if signed:
        return "signatures were not checked: no public key is known"
    return "no entry is signed, so whoever can write to the log could rewrite all of it"


def _told(breaks: Iterable[_Break]) -> Iterable[AuditFinding]:
    """The breaks in order, neighbours of a kind as one."""
    runs: list[_Break] = []
    for found in sorted(breaks, key=lambda b: (b.first, b.last)):
        last = runs[-1] if runs else None
        if last is not None and last.fault is found.fault and found.first <= last.last + 1:
            runs[-1] = _Break(last.first, max(last.last, found.last), last.fault, last.clause)
        else:
            runs.append(found)
    for run in runs:
        several = run.last > run.first
        subject = f"entries {run.first} to {run.last}" if several else f"entry {run.first}"
        verb = "are" if several else "is"
        yield AuditFinding(
            fault=run.fault,
            subject=subject,
            number=run.first,
            message=f"{subject} {verb} {run.clause}",
        )
