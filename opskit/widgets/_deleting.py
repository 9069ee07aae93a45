"""The plan of a delete: looked for in a thread, since it reads the WAL archive's ends, and asked about."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from opskit.cluster import Cluster
from opskit.operations.expire import ExpirePlan, LostInterval
from opskit.reports.retention import describe
from opskit.widgets._ask import Question
from opskit.widgets._background import Background


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """What deleting one backup would do. `lost` is `None` where it could not be found out."""

    name: str
    cluster: str
    plan: ExpirePlan
    lost: list[LostInterval] | None

    def question(self, delete: Callable[[str], None]) -> Question:
        """The question whether to."""
        lines = [line[:1].upper() + line[1:] for line in describe(self.plan, self.lost)]
        lines += [f"{b.parent}, which it is based on, stays" for b in self.plan.expired if b.parent]
        told = "".join(f"<li>{escape(line)}</li>" for line in lines)
        return Question(
            html=f"<p><b>Delete {escape(self.name)} of {escape(self.cluster)}?</b> It cannot be brought back.</p>"
            f"<ul>{told}</ul><p>Type <b>{escape(self.cluster)}</b> to confirm.</p>",
            button=f"Delete {self.name} of {self.cluster}",
            act=lambda _: delete(self.name),
            field="Cluster",
            wanted=self.cluster,
            destroys=True,
        )


class Deleting:
    """Finds out what a delete would do.

    Parameters
    ----------
    done
        Called in another thread when that is known.
    """

    def __init__(self, cluster: Cluster, done: Callable[[], None]) -> None:
        self._cluster = cluster
        self._background: Background[str, DeletePlan] = Background(self._find, done)

    @property
    def is_busy(self) -> bool:
        """Whether it is still looked for."""
        return self._background.is_busy

    def plan(self, name: str) -> None:
        """Look what deleting a backup would do."""
        self._background.ask(name)

    def taken(self) -> DeletePlan | Exception | None:
        """The plan, or why there is none, once."""
        found = self._background.answer or self._background.error
        if found is not None:
            self._background.ask(None)
        return found

    def _find(self, name: str) -> DeletePlan:
        plan = self._cluster.plan_delete(name)
        return DeletePlan(name, self._cluster.name, plan, self._cluster.intervals_lost(plan))
