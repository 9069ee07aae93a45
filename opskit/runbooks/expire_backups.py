"""What the cells of ``expire_backups.ipynb`` call. Without ``dry_run = False`` nothing is removed."""

from opskit.cluster import Cluster
from opskit.errors import OpskitError
from opskit.operations.check import Finding
from opskit.operations.expire import Expired
from opskit.operations.inventory import take_inventory
from opskit.reports.format import format_bytes
from opskit.reports.retention import WhatIf
from opskit.reports.view import View, facts
from opskit.runbooks.contract import Run


def preconditions(main: Cluster) -> list[Finding]:
    """Is there a policy, and can every record and every hold be read."""
    try:
        planned = main.plan_expire()
    except OpskitError as error:
        return [Finding(name="retention", passed=False, message=error.message, hint=error.hint)]
    message = f"a policy is set, and the records of {len(planned.decisions)} backups can be read"
    return [Finding(name="retention", passed=True, message=message)]


def policy(main: Cluster) -> View:
    """What the cluster's retention says."""
    retention = main.configuration.retention
    assert retention is not None
    limits = {
        "Days with a backup": retention.daily,
        "Weeks": retention.weekly,
        "Months": retention.monthly,
        "On demand": retention.on_demand,
    }
    rows = {
        name: "no limit" if limit is None else f"the newest {limit}"
        for name, limit in limits.items()
    }
    age = retention.max_age
    rows["Older than"] = "no limit" if age is None else f"{age.days} days go"
    rows["In any case"] = f"the newest {retention.min_backups} stay, and what is held or in use"
    return facts(rows)


def remove(main: Cluster, what: WhatIf, dry_run: bool) -> Expired | None:
    """Carry the plan out; `None` for a dry run."""
    return None if dry_run else main.expire(what.plan)


def removed(what: WhatIf, done: Expired | None) -> View:
    """What was removed, or would be."""
    if done is None:
        return facts(
            {
                "Removed": "nothing: this is a dry run",
                "Would free": format_bytes(what.freed_bytes),
                "To do it": "run this with -p dry_run false",
            }
        )
    rows = {
        "Backups": ", ".join(done.backups) or "none",
        "WAL segments": f"{done.wal_segments:,}",
        "Freed": format_bytes(done.freed_bytes),
    }
    for name, reason in done.kept_after_all.items():
        rows[f"Kept after all: {name}"] = reason
    return facts(rows)


def verify(run: Run, main: Cluster, what: WhatIf, done: Expired | None) -> None:
    """Check that what was to stay is there and whole, and what was to go is gone."""
    found = take_inventory(main.repository, main.name)
    listed = {backup.name for backup in found.backups}
    stays = [*what.plan.kept, *(b for b in what.plan.expired if done is None)]
    lacking = [backup.name for backup in stays if backup.name not in listed]
    run.check(
        "every backup that was to stay is listed",
        not lacking,
        f"{len(stays)} of them" if not lacking else f"missing: {', '.join(lacking)}",
    )
    flaws = "; ".join(map(str, found.flaws))
    run.check(
        "every listed backup has all that its record names",
        not found.flaws,
        flaws or f"{len(found.backups)} backups",
    )
    gone = "what was to go is gone, and a second run would find nothing"
    if done is None:
        run.not_run(gone, "the parameter dry_run is true")
        return
    again = main.plan_expire()
    left = [b.name for b in again.expired if b.name not in done.kept_after_all]
    run.check(gone, not left and not again.wal, ", ".join(left) or "nothing is left")
