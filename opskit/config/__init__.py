"""``opskit.toml`` turned into `Settings`.

This module knows where the file is found and what may stand in it; it does not know what conninfo means, whether a
repository exists or a server answers. Below it nobody reads the environment.
"""

from opskit.config._alarms import alarm_urls, sends_alarms
from opskit.config._reading import (
    check_cluster_name,
    find_configuration,
    jupyter_user,
    load_settings,
    read_retention,
    settings_from,
)
from opskit.config._settings import (
    AlarmSettings,
    AuditSettings,
    Checkpoint,
    ClusterSettings,
    FleetSettings,
    PostgresSettings,
    SchedulerSettings,
    Settings,
)

__all__ = [
    "AlarmSettings",
    "AuditSettings",
    "Checkpoint",
    "ClusterSettings",
    "FleetSettings",
    "PostgresSettings",
    "SchedulerSettings",
    "Settings",
    "alarm_urls",
    "check_cluster_name",
    "find_configuration",
    "jupyter_user",
    "load_settings",
    "read_retention",
    "sends_alarms",
    "settings_from",
]
