"""What an expire or a delete would do, in sentences. For commands, too: it loads no pandas."""

from opskit.model.backup import BaseBackup
from opskit.operations.expire import ExpirePlan, LostInterval
from opskit.reports.format import format_bytes, format_time


def describe(plan: ExpirePlan, lost: list[LostInterval] | None) -> list[str]:
    """A plan in sentences: what goes, what that frees, what cannot be restored any more, what stays for others only."""
    kept = [_only_parents(plan, name, parents) for name, parents in plan.only_parents.items()]
    if plan.is_empty:
        return ["nothing is to be removed", *kept]
    what = [
        _count(len(plan.expired), "backup"),
        _count(len(plan.abandoned), "unfinished backup"),
        _count(len(plan.leftovers), "consolidation's leftover"),
        _count(len(plan.wal), "WAL segment"),
    ]
    lines = [
        f"to be removed: {', '.join(filter(None, what))}; that frees {format_bytes(plan.freed_bytes)}"
    ]
    if lost is None:
        lines.append(
            "which points in time are lost is not known: PostgreSQL's programs are not here"
        )
    for interval in lost or []:
        if interval.from_at == interval.to_at:
            span = f"{format_time(interval.from_at)} cannot be restored any more"
        else:
            span = (
                f"from {format_time(interval.from_at)} to {format_time(interval.to_at)} no point in time"
                " can be restored any more"
            )
        lines.append(span + (f" (timeline {interval.timeline})" if interval.timeline > 1 else ""))
    return lines + kept


def _only_parents(plan: ExpirePlan, name: str, parents: tuple[BaseBackup, ...]) -> str:
    stored = format_bytes(sum(parent.stored_bytes for parent in parents))
    are, them = ("are", "them") if len(parents) > 1 else ("is", "it")
    return (
        f"{_count(len(parents), 'backup')} of {stored} {are} kept only because {name} is based on {them}:"
        f" 'opskit consolidate {plan.cluster} {name}' would let {them} go"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number != 1 else ''}" if number else ""
