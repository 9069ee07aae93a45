"""What is asked before it is done to a backup: the plans of deleting one and of making one whole.

They are looked for in a thread, since they read the WAL archive's ends, or look whether a chain is there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Protocol

from opskit.cluster import Cluster
from opskit.model.operation import OperationKind
from opskit.operations.consolidate import ConsolidatePlan
from opskit.operations.expire import ExpirePlan, LostInterval
from opskit.reports.format import format_bytes
from opskit.reports.removal import describe
from opskit.widgets._ask import Question
from opskit.widgets._background import Background

Act = Callable[[OperationKind, str], None]


class Deed(Protocol):
    """What is planned."""

    def question(self, act: Act) -> Question:
        """The question whether to; `act` does it."""


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """What deleting one backup would do. `lost` is `None` where it could not be found out."""

    name: str
    cluster: str
    plan: ExpirePlan
    lost: list[LostInterval] | None

    def question(self, act: Act) -> Question:
        """See `Deed`."""
        lines = [line[:1].upper() + line[1:] for line in describe(self.plan, self.lost)]
        lines += [f"{b.parent}, which it is based on, stays" for b in self.plan.expired if b.parent]
        told = "".join(f"<li>{escape(line)}</li>" for line in lines)
        return Question(
            html=f"<p><b>Delete {escape(self.name)} of {escape(self.cluster)}?</b> It cannot be brought back.</p>"
            f"<ul>{told}</ul><p>Type <b>{escape(self.cluster)}</b> to confirm.</p>",
            button=f"Delete {self.name} of {self.cluster}",
            act=lambda _: act(OperationKind.DELETE, self.name),
            field="Cluster",
            wanted=self.cluster,
            destroys=True,
        )


@dataclass(frozen=True, slots=True)
class WholePlan:
    """What making an increment a full backup would do."""

    plan: ConsolidatePlan

    def question(self, act: Act) -> Question:
        """See `Deed`."""
        backup, others = self.plan.backup, [other.name for other in self.plan.chain[1:]]
        size = format_bytes(self.plan.estimated_bytes)
        lines = [
            f"It is combined with {', '.join(others)} in the repository; the server is not involved",
            f"It will take about {size} instead of {format_bytes(backup.stored_bytes)}",
            "It keeps its name and no longer needs another backup; increments based on it stay valid",
        ]
        told = "".join(f"<li>{escape(line)}</li>" for line in lines)
        name = f"{backup.name} of {backup.cluster}"
        return Question(
            html=f"<p><b>Make {escape(name)} a full backup?</b></p><ul>{told}</ul>",
            button=f"Make {name} whole",
            act=lambda _: act(OperationKind.CONSOLIDATE, backup.name),
        )


class Deeds:
    """Finds out what would be done.

    Parameters
    ----------
    done
        Called in another thread when that is known.
    """

    def __init__(self, cluster: Cluster, done: Callable[[], None]) -> None:
        self._cluster = cluster
        self._background: Background[tuple[OperationKind, str], Deed] = Background(self._find, done)

    @property
    def is_busy(self) -> bool:
        """Whether it is still looked for."""
        return self._background.is_busy

    def plan(self, kind: OperationKind, name: str) -> None:
        """Look what a delete or a consolidation of a backup would do."""
        self._background.ask((kind, name))

    def taken(self) -> Deed | Exception | None:
        """The plan, or why there is none, once."""
        found = self._background.answer or self._background.error
        if found is not None:
            self._background.ask(None)
        return found

    def _find(self, asked: tuple[OperationKind, str]) -> Deed:
        kind, name = asked
        if kind is OperationKind.CONSOLIDATE:
            return WholePlan(self._cluster.plan_consolidate(name))
        plan = self._cluster.plan_delete(name)
        return DeletePlan(name, self._cluster.name, plan, self._cluster.intervals_lost(plan))
