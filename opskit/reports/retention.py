"""What an expire would do, to look at: a table of decisions with their reasons, and what it costs and frees."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from opskit.model.retention import Hold
from opskit.operations.expire import ExpirePlan, LostInterval
from opskit.reports.format import format_bytes
from opskit.reports.removal import describe
from opskit.reports.tables import BYTES, TEXT, TIME, typed_table
from opskit.reports.view import View, table

_DECISIONS = {
    "name": TEXT,
    "kind": TEXT,
    "trigger": TEXT,
    "started_at": TIME,
    "stored_bytes": BYTES,
    "keep": "boolean",
    "reasons": TEXT,
    "note": TEXT,
}
_LOST = {"timeline": "Int64", "from_at": TIME, "to_at": TIME}
_HOLDS = {"backup": TEXT, "by": TEXT, "reason": TEXT, "placed_at": TIME, "ends_at": TIME}


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a policy would do to a cluster's backups. `intervals_lost` is `None` where it could not be found out."""

    plan: ExpirePlan
    intervals_lost: list[LostInterval] | None

    @property
    def backups(self) -> pd.DataFrame:
        """The decisions.

        Returns
        -------
        DataFrame
            One row a backup, newest first: name, kind, trigger, started_at (UTC), stored_bytes, keep (boolean), reasons
            (joined by ``; ``), note. The index counts rows.
        """
        return decisions_table(self.plan)

    @property
    def lost(self) -> pd.DataFrame:
        """The points in time that could be restored before and not after.

        Returns
        -------
        DataFrame
            One row an interval, by rising timeline and time: timeline, from_at, to_at (UTC). The index counts rows.
        """
        rows = [
            {column: getattr(interval, column) for column in _LOST}
            for interval in self.intervals_lost or []
        ]
        return typed_table(rows, _LOST)

    @property
    def freed_bytes(self) -> int:
        """What would be freed in the repository."""
        return self.plan.freed_bytes

    def _view(self) -> View:
        rows = [
            (
                decision.backup.name,
                str(decision.backup.trigger),
                format_bytes(decision.backup.stored_bytes),
                "keep" if decision.keep else "expire",
                "; ".join(decision.reasons),
            )
            for decision in self.plan.decisions
        ]
        shown = table(["Backup", "Started by", "Stored", "What", "Why"], rows, numbers=["Stored"])
        lines = describe(self.plan, self.intervals_lost)
        return View(
            html=shown.html + "".join(f"<p>{line}.</p>" for line in lines),
            text=shown.text + "\n\n" + "\n".join(lines),
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, object]:
        return self._view()._repr_mimebundle_()

    def __repr__(self) -> str:
        return repr(self._view())


def decisions_table(plan: ExpirePlan) -> pd.DataFrame:
    """The decisions of a plan; see `WhatIf.backups`."""
    rows = []
    for decision in plan.decisions:
        row = {column: getattr(decision.backup, column, None) for column in _DECISIONS}
        rows.append(row | {"keep": decision.keep, "reasons": "; ".join(decision.reasons)})
    return typed_table(rows, _DECISIONS)


def holds_table(holds: Iterable[Hold]) -> pd.DataFrame:
    """Holds as a table.

    Returns
    -------
    DataFrame
        One row a hold, in the given order: backup, by, reason, placed_at, ends_at (UTC; missing: when it is released).
        The index counts rows.
    """
    rows = [
        {column: getattr(hold, column, None) for column in _HOLDS} | {"ends_at": hold.until}
        for hold in holds
    ]
    return typed_table(rows, _HOLDS)
