"""What is due now, and carrying it out: the embedded scheduler, and units for the platform's own.

A *period* is what `opskit.model.schedule` means by it. Whatever is begun is a runbook in a process of its own, with a
report, as a person would run it.
"""

from opskit.planner._export import Platform, export_units
from opskit.planner._scheduler import Scheduler
from opskit.planner._states import ClusterSchedule, cluster_schedule

__all__ = ["ClusterSchedule", "Platform", "Scheduler", "cluster_schedule", "export_units"]
