"""What is due now, and carrying it out: the embedded scheduler, a fleet of workers, units for the platform's own.

A *period* is what `opskit.model.schedule` means by it. Whatever is begun is a runbook in a process of its own, with a
report, as a person would run it.
"""

from opskit.planner._export import Platform, export_units
from opskit.planner._fleet import FleetStatus, JobStatus, WorkerStatus, fleet_status, open_worker
from opskit.planner._scheduler import Scheduler
from opskit.planner._states import ClusterSchedule, cluster_schedule

__all__ = [
    "ClusterSchedule",
    "FleetStatus",
    "JobStatus",
    "Platform",
    "Scheduler",
    "WorkerStatus",
    "cluster_schedule",
    "export_units",
    "fleet_status",
    "open_worker",
]
