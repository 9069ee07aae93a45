"""The plan of a restore, as a panel shows it: which backup and why, how much WAL, where to, how long it will take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets

from opskit.cluster import Cluster
from opskit.errors import OpskitError
from opskit.operations.prediction import Prediction, bytes_to_write
from opskit.operations.restore import RestorePlan
from opskit.postgres.account import server_account
from opskit.reports.format import format_bytes, format_duration
from opskit.widgets._background import Background
from opskit.widgets._goal import Goal
from opskit.widgets._messages import error_html, traceback_text
from opskit.widgets._stack import told

NOTHING = (
    '<p class="opskit-empty">Choose a moment on the timeline, or something else to restore. The plan is shown here;'
    " nothing is done before you press Restore.</p>"
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to restore, where to, and whether it is to be held there.

    `restores` counts those that were completed: another one tells more of how long the next will take.
    """

    goal: Goal
    directory: Path
    pause: bool
    restores: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """What a restore will do.

    `unreachable` names the account that cannot run a copy there; `parents` are what the backup is put together with.
    """

    plan: RestorePlan
    prediction: Prediction | None
    unreachable: str = ""
    parents: Sequence[str] = ()


class Planning:
    """Plans in a thread, since a plan reads the WAL archive; `widget` shows the plan.

    Parameters
    ----------
    done
        Called in another thread when there is a plan.
    """

    def __init__(self, cluster: Cluster, done: Callable[[], None]) -> None:
        self._cluster = cluster
        self._background: Background[Wish, Planned] = Background(self._plan, done)
        self.widget = ipywidgets.HTML(NOTHING)
        self.widget.add_class("opskit-plan")

    def wish(self, wish: Wish | None) -> None:
        """Plan this, unless it is planned already; by `None` nothing."""
        if wish != self._background.question:
            self._background.ask(wish)

    @property
    def wished(self) -> Wish | None:
        """What is planned: the plan is known, and it can be done."""
        return self._background.question if self._background.answer is not None else None

    def draw(self, error: Exception | None = None) -> None:
        """Show the plan; or why what was typed cannot be planned."""
        error = error or self._background.error
        if error is not None:
            trace = "" if isinstance(error, OpskitError) else traceback_text(error)
            self.widget.value = error_html("This cannot be restored", told(error), {}, trace)
        elif self._background.answer is not None:
            self.widget.value = plan_html(self._background.answer)
        elif self._background.is_busy:
            self.widget.value = '<p class="opskit-empty">Planning…</p>'
        else:
            self.widget.value = NOTHING

    def _plan(self, wish: Wish) -> Planned:
        cluster = self._cluster
        pause = wish.pause and bool(wish.goal.target)
        plan = cluster.plan_restore(wish.directory, pause=pause, **wish.goal.arguments)
        account = server_account(cluster.settings.postgres.run_as)
        there = next(p for p in (plan.directory, *plan.directory.parents) if p.is_dir())
        blocked = account is not None and not account.can_reach(there)
        return Planned(
            plan,
            cluster.predict_restore(plan),
            account.name if account and blocked else "",
            [parent.name for parent in cluster.repository.chain(plan.backup)[1:]],
        )


def plan_html(planned: Planned) -> str:
    """A plan, a line for each of its facts."""
    plan = planned.plan
    recovery = plan.recovery
    facts = {"Backup": f"{plan.backup.name}, PostgreSQL {plan.backup.postgresql_version}"}
    if planned.parents:
        more = f" and {len(planned.parents) - 1} more" if len(planned.parents) > 1 else ""
        facts["Based on"] = f"{planned.parents[0]}{more}; combined while restoring"
    if recovery is not None:
        count = len(recovery.path.names)
        facts["Because"] = f"it is {recovery.why}"
        facts["WAL"] = (
            f"{count:,} segment{'s' if count != 1 else ''} of timeline {recovery.timeline},"
            f" {format_bytes(recovery.path.stored_bytes)} stored; none is missing"
        )
        end = f" up to {recovery.path.end}" if recovery.path.end is not None else ""
        held = ", and pauses there: you can query it, then move it on" if plan.paused else ""
        facts["First start"] = f"recovers the copy{end}{held}"
    else:
        facts["WAL"] = (
            "only what the backup holds; the copy will be as the cluster was when the backup ended"
        )
    facts["Writes"] = f"{format_bytes(bytes_to_write(plan))} into {plan.directory}"
    facts["Takes"] = _time(planned.prediction)
    lines = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    warning = (
        f'<p class="opskit-reason">The account {escape(planned.unreachable)!r}, which runs servers, cannot reach that'
        " directory, so the copy could not be started there.</p>"
        if planned.unreachable
        else ""
    )
    return f"<dl>{lines}</dl>{warning}"


def _time(prediction: Prediction | None) -> str:
    if prediction is None:
        return "unknown: nothing was restored on this machine yet"
    times = f"{prediction.restores} earlier restore{'s' if prediction.restores != 1 else ''}"
    return (
        f"about {format_duration(prediction.duration)}, judging by {times} on this machine"
        f" ({format_bytes(prediction.bytes_per_second)}/s)"
    )
