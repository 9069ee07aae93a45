"""What somebody is told, and when again: a pure function of what is wrong, what was told before, and now.

Each receiver has a memory of its own, so that one that was away hears later what the others heard, and nobody hears the
same twice. What is wrong is remembered until all is well with its cluster: then that is told, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from opskit.model.format import format_duration, format_time
from opskit.model.freshness import FreshnessFinding, Severity

_SHOWN = 20  # a fleet whose network is gone is one message, not ten thousand lines

# By the names of clusters, and below those of findings.
Memory = Mapping[str, Mapping[str, "Remembered"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A finding that did not pass: since when, and when it was told, if it was."""

    message: str
    severity: Severity
    since: datetime
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message: its severity (`OK` when all is well again), a line that says it, and the whole."""

    severity: Severity
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be said, if anything, and what is remembered once it was said, or as long as that failed."""

    notice: Notice | None
    once_told: Memory
    if_not: Memory


def decide_alarms(
    memory: Memory,
    found: Mapping[str, Sequence[FreshnessFinding]],
    now: datetime,
    repeat_after: timedelta,
) -> Decision:
    """What to tell one receiver.

    Parameters
    ----------
    memory
        What it was told; of clusters that are not looked at now, nothing is told and all is kept.
    found
        The findings of each cluster that was looked at, those that pass too.
    """
    told, untold = dict(memory), dict(memory)
    due: list[tuple[str, FreshnessFinding, datetime]] = []
    well: list[tuple[str, Mapping[str, Remembered]]] = []
    for cluster, findings in found.items():
        before = memory.get(cluster, {})
        wrong = {finding.name: finding for finding in findings if not finding.passed}
        if not wrong:
            if before:
                well.append((cluster, before))
            told.pop(cluster, None)
            continue
        kept = {**before, **{n: _remembered(before.get(n), f, now) for n, f in wrong.items()}}
        untold[cluster] = told[cluster] = kept
        if any(_is_due(kept[name], now, repeat_after) for name in wrong):
            due += [(cluster, finding, kept[name].since) for name, finding in wrong.items()]
            heard = {name: replace(kept[name], told_at=now) for name in wrong}
            told[cluster] = {**kept, **heard}
    notice = _notice(due, well, now) if due or well else None
    return Decision(notice=notice, once_told=told, if_not=untold)


def _remembered(before: Remembered | None, finding: FreshnessFinding, now: datetime) -> Remembered:
    return Remembered(
        message=finding.message,
        severity=finding.severity,
        since=before.since if before is not None else now,
        told_at=before.told_at if before is not None else None,
    )


def _is_due(one: Remembered, now: datetime, repeat_after: timedelta) -> bool:
    # A clock that went back must not silence an alarm for as long as it went.
    return one.told_at is None or abs(now - one.told_at) >= repeat_after


def _notice(
    due: Sequence[tuple[str, FreshnessFinding, datetime]],
    well: Sequence[tuple[str, Mapping[str, Remembered]]],
    now: datetime,
) -> Notice:
    lines = [_wrong_lines(*one, now=now) for one in due]
    lines += [_well_lines(cluster, before) for cluster, before in well]
    shown = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        shown.append(f"and {len(lines) - _SHOWN} more: 'opskit alarms run --dry-run' shows all")
    return Notice(severity=_worst(due), title=_title(due, well), text="\n\n".join(shown))


def _wrong_lines(cluster: str, finding: FreshnessFinding, since: datetime, *, now: datetime) -> str:
    text = f"{str(finding.severity).upper()} {cluster}: {finding.name}: {finding.message}"
    if now > since:
        text += f" (first seen {format_duration(now - since)} ago)"
    return text + (f"\n{finding.hint}" if finding.hint else "")


def _well_lines(cluster: str, before: Mapping[str, Remembered]) -> str:
    text = f"WELL AGAIN {cluster}: nothing is wrong any more. What was:"
    for name, one in before.items():
        text += f"\n- {name}, first seen {format_time(one.since)}: {one.message}"
    return text


def _worst(due: Sequence[tuple[str, FreshnessFinding, datetime]]) -> Severity:
    severities = {finding.severity for _, finding, _ in due}
    order = (Severity.CRITICAL, Severity.WARNING)
    return next((severity for severity in order if severity in severities), Severity.OK)


def _title(
    due: Sequence[tuple[str, FreshnessFinding, datetime]],
    well: Sequence[tuple[str, Mapping[str, Remembered]]],
) -> str:
    clusters = [*dict.fromkeys(cluster for cluster, _, _ in due)]
    if not due:
        return f"opskit: {_names([cluster for cluster, _ in well])}: all is well again"
    if len(due) == 1:
        return f"opskit: {_names(clusters)}: {due[0][1].message}"
    return f"opskit: {_names(clusters)}: {len(due)} things are wrong"


def _names(clusters: Sequence[str]) -> str:
    more = f" and {len(clusters) - 3} more" if len(clusters) > 3 else ""
    return ", ".join(clusters[:3]) + more
