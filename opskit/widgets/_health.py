"""What a card of a cluster's health says, as HTML and as text. Every state has a word and a mark of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from html import escape

from opskit.comparison import ClusterState
from opskit.model.freshness import FreshnessFinding, Severity
from opskit.reports.format import format_bytes, format_duration, format_time
from opskit.reports.listed import chain_facts

_SHOWN = 3  # things that are wrong


class Health(StrEnum):
    """How a cluster is: well, in need of a look, in danger, or not known yet, since its server was not heard."""

    BAD = "act now"
    ODD = "look at this"
    UNKNOWN = "partly unknown"
    GOOD = "all is well"


_MARKS = {Health.GOOD: "✓", Health.ODD: "!", Health.BAD: "✕", Health.UNKNOWN: "?"}
_TONES = {
    Health.GOOD: "complete",
    Health.ODD: "odd",
    Health.BAD: "failed",
    Health.UNKNOWN: "calm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A cluster's state, and where its server stands: being asked, silent for too long, or neither."""

    state: ClusterState
    is_asked: bool = False
    is_silent: bool = False


def health_of(heard: Heard) -> Health:
    """How a cluster is, by what is known of it."""
    state = heard.state
    severities = {finding.severity for finding in state.findings}
    if state.errors or Severity.CRITICAL in severities or not state.backups:
        return Health.BAD
    if Severity.WARNING in severities:
        return Health.ODD
    if heard.is_asked or heard.is_silent or state.server_error or not state.findings:
        return Health.UNKNOWN
    return Health.GOOD


def health_html(heard: Heard) -> str:
    """One cluster's card."""
    health, state = health_of(heard), heard.state
    name = escape(state.cluster)
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in _facts(heard).items()
    )
    return (
        f'<section class="opskit-health opskit-is-{_TONES[health]}" aria-label="{name}: {health}">'
        f'<h3>{name} <span class="opskit-state"><span aria-hidden="true">{_MARKS[health]}</span> {health}</span></h3>'
        f"{_wrong(heard)}<dl>{rows}</dl></section>"
    )


def health_text(heard: Heard) -> str:
    """One cluster's card, in a line."""
    facts = "; ".join(f"{key.lower()} {value}" for key, value in _facts(heard).items())
    wrong = " ".join(f"{message}." for message, _ in _told(heard))
    return f"{heard.state.cluster}: {health_of(heard)}. {wrong} {facts}".replace("  ", " ")


def _wrong(heard: Heard) -> str:
    """What is not well, with what to do."""
    told = _told(heard)
    lines = "".join(
        f"<li>{escape(message)}{f'<span>{escape(hint)}</span>' if hint else ''}</li>"
        for message, hint in told[:_SHOWN]
    )
    more = len(told) - _SHOWN
    also = f"<li>and {more} more</li>" if more > 0 else ""
    return f'<ul class="opskit-wrong">{lines}{also}</ul>' if told else ""


def _told(heard: Heard) -> list[tuple[str, str]]:
    state = heard.state
    found: list[tuple[str, str]] = [(e.message, e.hint) for e in state.errors.values()]
    for finding in _worst_first(state.findings):
        named = "" if finding.name in finding.message else f"{finding.name}: "
        found.append((named + finding.message, finding.hint))
    if not found and not state.backups:
        found.append(("there is no backup yet", f"Take one: 'opskit backup {state.cluster}'."))
    return list(dict.fromkeys(found))


def _worst_first(findings: Sequence[FreshnessFinding]) -> list[FreshnessFinding]:
    order = list(Severity)[::-1]
    wrong = [finding for finding in findings if not finding.passed]
    return sorted(wrong, key=lambda finding: order.index(finding.severity))


def _facts(heard: Heard) -> Mapping[str, str]:
    state = heard.state
    newest = state.newest
    facts = {"Newest backup": "none", "Size": "not known yet"}
    if newest is not None:
        chain, _ = chain_facts(newest, {b.name: b for b in state.backups})
        length = f" in a chain of {chain:,}" if newest.parent is not None and chain else ""
        facts["Newest backup"] = (
            f"{ago(newest.stopped_at, state.at)}, {newest.name}, {newest.kind}{length}"
        )
        facts["Size"] = f"{format_bytes(newest.cluster_bytes)}{_growth(state)}"
    count = f"{len(state.backups):,} backup{'s'[: len(state.backups) != 1]}"
    facts["Stored"] = (
        f"{format_bytes(state.stored_bytes)} in {count}" if state.backups else "nothing"
    )
    return facts | {
        "WAL archive": _archive(heard),
        "Server": _server(heard),
        "Last failure": _failure(heard),
        "Next due": "no schedule"
        if state.due_at is None
        else f"{ago(state.due_at, state.at)}, {format_time(state.due_at)}",
    }


def _growth(state: ClusterState) -> str:
    grown = state.growth_per_day_bytes
    if grown is None:
        return ""
    return f", {'+' if grown >= 0 else '−'}{format_bytes(abs(grown))} a day"


def _archive(heard: Heard) -> str:
    state = heard.state
    if state.archive is None:
        return "none"
    told = f"up to {ago(state.archive.stored_at, state.at)}"
    if state.backups:
        told += f", since {format_time(state.backups[-1].stopped_at)}"
    if state.wal is not None and state.wal.behind_bytes is not None:
        behind = state.wal.behind_bytes
        told += f", {format_bytes(behind)} behind the server" if behind else ", nothing is missing"
    return told


def _server(heard: Heard) -> str:
    if heard.is_asked:
        return "being asked"
    if heard.is_silent:
        return "did not answer in time"
    if heard.state.wal is None:
        return "not asked"
    return heard.state.server_error or "answers"


def _failure(heard: Heard) -> str:
    """What failed last and when; why, unless the card has said so already."""
    failed = heard.state.failed
    if failed is None:
        return "none"
    what = f"{failed.kind} {ago(failed.ended_at or failed.heartbeat_at, heard.state.at)}"
    reason = (failed.error or {}).get("message", "")
    is_told = bool(reason) and any(reason in message for message, _ in _told(heard)[:_SHOWN])
    return what if is_told else f"{what}, {failed.words}"


def ago(at: datetime, now: datetime) -> str:
    """How long something was before `now`, or will be after it: ``2 h 5 min ago``, ``in 3 d``."""
    passed = now - at
    if passed < timedelta(seconds=-1):
        return f"in {format_duration(-passed)}"
    return f"{format_duration(passed)} ago"
