"""Tampering with the audit trail, at random and from a seed: every one is found, and the right thing is named."""

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from opskit.evidence import read_record
from opskit.evidence.keys import KeyFile, init_key
from opskit.evidence.reports import survey_reports
from opskit.evidence.verify import AuditVerdict, verify_files
from opskit.model.audit import PAYLOAD, StoredEntry
from opskit.model.chain import Fault, FoundEntry
from tests.support.trails import (
    MadeTrail,
    RememberingRing,
    edited,
    enveloped,
    make_trail,
    operation,
    rechain,
    seal,
    write_report,
)

ENTRIES, REPORTS, TIMES = 1000, 50, 4
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.sweep) for seed in range(1, 11))]
KEEP = REPORTS * (ENTRIES // REPORTS) - 2  # the last head that a report keeps
found_entry = cache(FoundEntry.of)  # the same bytes are read hundreds of times


class Scene:
    """A trail, who may have signed it, and a second key that nobody trusts."""

    def __init__(self, directory: Path, signed: bool) -> None:
        for name in ("trusted", "other"):
            init_key(directory / name)
        self.key = KeyFile(directory / "trusted") if signed else None
        self.other = KeyFile(directory / "other")
        self.ring = RememberingRing.read([directory / "trusted.pub"]) if signed else None
        self.trail: MadeTrail = make_trail(directory / "reports", ENTRIES, REPORTS, self.key)

    def verify(self, entries: list[StoredEntry] | None = None) -> AuditVerdict:
        """Look at these entries and the reports."""
        found = [found_entry(one) for one in (self.trail.entries if entries is None else entries)]
        return verify_files(found, survey_reports(self.trail.directory), keys=self.ring)


@pytest.fixture(scope="module", params=[True, False], ids=["signed", "not signed"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """1,000 entries and 50 reports."""
    return Scene(tmp_path_factory.mktemp("trail"), request.param)


def named(verdict: AuditVerdict) -> range:
    """The numbers of the entries that the first finding names."""
    assert verdict.findings, "nothing was found"
    subject = verdict.findings[0].subject
    match = re.fullmatch(r"entry (\d+)|entries (\d+) to (\d+)", subject)
    assert match is not None, subject
    first = int(match[1] or match[2])
    return range(first, int(match[3] or first) + 1)


def test_a_trail_that_nobody_touched_passes(scene: Scene) -> None:
    """Nothing is found, and that the last entry could be cut off is told."""
    verdict = scene.verify()
    assert verdict.findings == ()
    assert (verdict.entries, verdict.reports, verdict.head.number) == (ENTRIES, REPORTS, ENTRIES)
    assert any("no report was filed after entries 999 to 1000" in note for note in verdict.notes)


Tampering = Callable[[Scene, list[StoredEntry], int, random.Random], list[StoredEntry]]


def _text(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """One character of an entry."""
    one = entries[place]
    at = chance.randrange(one.text.index('"host"'), len(one.text))
    other = chance.choice([c for c in "0aZ{" if c != one.text[at]])
    entries[place] = replace(one, text=one.text[:at] + other + one.text[at + 1 :])
    return entries


def _value(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """What an entry tells, and the digest beside it."""
    entries[place] = edited(entries[place], outcome="failed")
    return entries


def _value_and_tail(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """What an entry tells, and every digest after it."""
    entries[place] = edited(entries[place], actor="nobody")
    return rechain(entries, place)


def _delete(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry is gone."""
    del entries[place]
    return entries


def _delete_and_tail(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry is gone, and everything after it made to fit."""
    del entries[place]
    return rechain(entries, place)


def _insert(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry that fits the one before."""
    before = entries[place - 1].sha256
    key = scene.other if chance.random() < 0.5 else None
    return [*entries[:place], seal(place + 1, before, operation(5000), key), *entries[place:]]


def _insert_and_tail(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry that fits the one before, and everything after it made to fit."""
    return rechain(_insert(scene, entries, place, chance), place + 1)


def _reorder(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """Two entries change places."""
    other = chance.randrange(place + 1, ENTRIES)
    entries[place], entries[other] = entries[other], entries[place]
    return entries


def _reorder_and_tail(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """Two entries change places, and everything after them is made to fit."""
    return rechain(_reorder(scene, entries, place, chance), place)


def _truncate(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """The end is cut off."""
    return entries[:place]


def _behead(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """The beginning is cut off."""
    return entries[place + 1 :]


def _resign(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry is signed with another key."""
    entry = entries[place].read()
    assert entry is not None
    entries[place] = entry.signed(scene.other.sign(entry.payload(), PAYLOAD)).stored()
    return entries


def _resign_tail(
    scene: Scene, entries: list[StoredEntry], place: int, chance: random.Random
) -> list[StoredEntry]:
    """An entry is edited, and it and all after it are signed with another key."""
    entries[place] = edited(entries[place], outcome="failed")
    return rechain(entries, place, scene.other)


TAMPERINGS: list[tuple[Tampering, Fault]] = [
    (_text, Fault.EDITED),
    (_value, Fault.EDITED),
    (_value_and_tail, Fault.EDITED),
    (_delete, Fault.REMOVED),
    (_delete_and_tail, Fault.EDITED),
    (_insert, Fault.INSERTED),
    (_insert_and_tail, Fault.EDITED),
    (_reorder, Fault.REORDERED),
    (_reorder_and_tail, Fault.EDITED),
    (_truncate, Fault.TRUNCATED),
    (_behead, Fault.REMOVED),
    (_resign, Fault.RESIGNED),
    (_resign_tail, Fault.RESIGNED),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("tamper", "fault"), TAMPERINGS, ids=lambda value: getattr(value, "__name__", "")[1:]
)
def test_the_first_entry_that_was_tampered_with_is_named(
    scene: Scene, tamper: Tampering, fault: Fault, seed: int
) -> None:
    """With a key, or where a neighbour gives it away, it is named exactly; else as one of those between two reports."""
    chance = random.Random(f"{tamper.__name__} {seed}")
    everything = tamper.__name__.endswith("_tail")
    for _ in range(TIMES):
        place = chance.randrange(1, KEEP - 1)
        entries = tamper(scene, list(scene.trail.entries), place, chance)
        verdict = scene.verify(entries)
        numbers = named(verdict)
        number = 1 if tamper is _behead else place + 1
        assert number in numbers, verdict.findings[:3]
        if scene.key is not None or not everything:
            assert numbers[0] == number, verdict.findings[:3]
        else:
            assert len(numbers) <= ENTRIES // REPORTS
        expected = {fault}
        if tamper is _insert_and_tail and scene.key is not None:
            expected = {Fault.UNSIGNED, Fault.RESIGNED}
        if fault is Fault.RESIGNED and scene.key is None:
            expected = {Fault.EDITED}
        assert verdict.findings[0].fault in expected, verdict.findings[:3]


def test_a_noted_head_shows_that_the_last_entries_are_gone(scene: Scene) -> None:
    """What no report was filed after can be cut off without a trace, unless somebody noted the head."""
    entries = scene.trail.entries[:-1]
    assert scene.verify(entries).passed
    found = [found_entry(one) for one in entries]
    filed = survey_reports(scene.trail.directory)
    for head, passed in ((entries[400].sha256, True), (scene.trail.entries[-1].sha256, False)):
        verdict = verify_files(found, filed, keys=scene.ring, head=head)
        assert verdict.passed is passed
    assert verdict.findings[0].fault is Fault.TRUNCATED


@contextmanager
def undone(directory: Path) -> Iterator[None]:
    """While this lasts, reports may be tampered with."""
    before = {path: path.read_bytes() for path in directory.glob("*/*/*/*")}
    try:
        yield
    finally:
        for path in set(directory.glob("*/*/*/*")) - set(before):
            path.unlink()
        for path, content in before.items():
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)


def _swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def _edit_record(scene: Scene, name: str, key: KeyFile | None) -> None:
    """Say that a failed run passed, and seal it as far as one can."""
    path = scene.trail.directory / f"{name}.json"
    statement = json.loads(json.dumps(read_record(path).statement))
    statement["predicate"]["outcome"] = "failed"
    content = json.dumps(statement).encode()
    path.write_bytes(content if key is None else enveloped(content, key))


REPORT_TAMPERINGS = {
    "edit notebook": {Fault.EDITED},
    "edit page": {Fault.EDITED},
    "edit record": {Fault.EDITED},
    "edit record, sign with another key": {Fault.EDITED, Fault.RESIGNED},
    "make a whole new report": {Fault.EDITED},
    "remove report": {Fault.REMOVED},
    "remove record": {Fault.REMOVED},
    "remove notebook": {Fault.REMOVED},
    "remove page": {Fault.REMOVED},
    "insert copy": {Fault.SWAPPED},
    "insert new": {Fault.NOT_ENTERED},
    "insert without record": {Fault.INSERTED},
    "swap reports": {Fault.SWAPPED},
    "swap notebooks": {Fault.SWAPPED},
    "swap pages": {Fault.SWAPPED},
    "swap records": {Fault.SWAPPED},
}


def _tamper(scene: Scene, how: str, name: str, other: str) -> set[str]:
    """Do it, and give the names of the reports that may be named for it."""
    reports = scene.trail.directory
    parts = {s: reports / f"{name}{s}" for s in (".ipynb", ".html", ".json")}
    words = {"notebook": [".ipynb"], "page": [".html"], "record": [".json"], "report": list(parts)}
    new = "main/2026/11/20261130T000000Z-local_restore"
    match how.split(","):
        case ["edit record"]:
            _edit_record(scene, name, None)
        case ["edit record", _]:
            _edit_record(scene, name, scene.other)
        case ["make a whole new report"]:
            record = read_record(parts[".json"])
            write_report(reports, name, None, scene.other if record.is_signed else None)
        case ["insert new"]:
            write_report(reports, new, None, scene.key)
            return {new}
        case ["insert without record"]:
            (reports / f"{new}.html").write_bytes(parts[".html"].read_bytes())
            return {new}
        case ["insert copy"]:
            for suffix, path in parts.items():
                (reports / f"{new}{suffix}").write_bytes(path.read_bytes())
            return {new}
        case [words_]:
            verb, what = words_.split()
            for suffix in words[what.removesuffix("s")]:
                if verb == "edit":
                    parts[suffix].write_bytes(parts[suffix].read_bytes() + b" ")
                elif verb == "remove":
                    parts[suffix].unlink()
                else:
                    _swap(parts[suffix], reports / f"{other}{suffix}")
            return {name, other} if verb == "swap" else {name}
    return {name}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", REPORT_TAMPERINGS)
def test_a_report_that_was_tampered_with_is_named(scene: Scene, how: str, seed: int) -> None:
    """Whatever is done to the files of a report, and the trail's log left alone."""
    chance = random.Random(f"{how} {seed}")
    for _ in range(TIMES):
        name, other = chance.sample(scene.trail.reports, 2)
        with undone(scene.trail.directory):
            may = _tamper(scene, how, name, other)
            verdict = scene.verify()
        assert verdict.findings, how
        first = verdict.findings[0]
        assert first.subject in {f"report {name}" for name in may}, verdict.findings[:3]
        assert first.fault in REPORT_TAMPERINGS[how] | (
            {Fault.RESIGNED} if how == "make a whole new report" and scene.key else set()
        ), verdict.findings[:3]
        assert any(name in first.message for name in may)
