"""Units for the platform's own scheduler, to be read, changed and installed by hand."""

import shlex
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cronsim import CronSim

from opskit.config import ClusterSettings, Settings
from opskit.errors import ErrorKind, InputError

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


class Platform(StrEnum):
    """Whose scheduler."""

    SYSTEMD = "systemd"
    CRON = "cron"
    KUBERNETES = "kubernetes"


def export_units(settings: Settings, platform: Platform, cluster: str) -> str:
    """What makes the platform back up a cluster by its schedule, and expire behind it where it has a retention.

    Raises
    ------
    InputError
        The cluster has no schedule, or one that the platform cannot say.
    """
    configured = settings.cluster(cluster)
    if configured.schedule is None:
        raise InputError(
            f"cluster {cluster!r} has no schedule",
            ErrorKind.WRONG_SETTING,
            f'Below [clusters.{cluster}], for example: schedule = "0 2 * * *" (cron, UTC).',
        )
    write = {Platform.SYSTEMD: _systemd, Platform.CRON: _cron, Platform.KUBERNETES: _kubernetes}
    return write[platform](settings, configured, configured.schedule)


def _commands(settings: Settings, cluster: ClusterSettings, opskit: list[str]) -> list[str]:
    base = [*opskit, "--config", str(settings.file), "runbook", "run"]
    lines = [shlex.join([*base, "scheduled_backup", cluster.name])]
    if cluster.retention is not None:
        lines.append(shlex.join([*base, "expire_backups", cluster.name, "-p", "dry_run", "false"]))
    return lines


def _own() -> list[str]:
    """How this very opskit is started."""
    command = Path(sys.executable).with_name("opskit")
    return [str(command)] if command.exists() else [sys.executable, "-m", "opskit"]


def _systemd(settings: Settings, cluster: ClusterSettings, schedule: str) -> str:
    name = f"opskit-backup-{cluster.name}"
    # In a unit "%" begins a specifier and "$" a variable; there is no shell.
    starts = "".join(
        f"ExecStart={line.replace('%', '%%').replace('$', '$$')}\n"
        for line in _commands(settings, cluster, _own())
    )
    return (
        f"# /etc/systemd/system/{name}.service\n"
        "[Unit]\n"
        f"Description=Back up the PostgreSQL cluster {cluster.name}\n"
        "Wants=network-online.target\nAfter=network-online.target\n\n"
        "[Service]\nType=oneshot\n"
        f"{starts}"
        "KillMode=mixed\nTimeoutStopSec=90\n\n"
        f"# /etc/systemd/system/{name}.timer\n"
        "[Unit]\n"
        f"Description=When to back up the PostgreSQL cluster {cluster.name}\n\n"
        "[Timer]\n"
        f"OnCalendar={_calendar(schedule)}\n"
        "Persistent=true\n"  # a machine that slept backs up when it wakes, once
        f"RandomizedDelaySec={int(settings.scheduler.jitter.total_seconds())}\n\n"
        "[Install]\nWantedBy=timers.target\n\n"
        f"# systemctl enable --now {name}.timer\n"
    )


def _calendar(schedule: str) -> str:
    """The schedule in systemd's words."""
    minute, hour, day, month, weekday = schedule.split()
    if day != "*" and weekday != "*":
        raise InputError(
            f"systemd has no word for {schedule!r}: cron means one day or the other, systemd both",
            ErrorKind.WRONG_SETTING,
            "Give a day of the month or a day of the week.",
        )
    cron = CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC))

    def words(field: str, values: Collection[int | tuple[int, int]]) -> str:
        return "*" if field == "*" else ",".join(f"{v:02}" for v in sorted(_numbers(values)))

    days = ""
    if weekday != "*":
        days = ",".join(dict.fromkeys(_DAYS[v % 7] for v in sorted(_numbers(cron.weekdays)))) + " "
    return (
        f"{days}*-{words(month, cron.months)}-{words(day, cron.days)}"
        f" {words(hour, cron.hours)}:{words(minute, cron.minutes)}:00 UTC"
    )


def _numbers(values: Collection[int | tuple[int, int]]) -> list[int]:
    """The values of a field, if they are plain ones: neither the last day of a month nor its second Monday."""
    plain = [value for value in values if isinstance(value, int) and value >= 0]
    if len(plain) != len(values):
        raise InputError(
            "systemd has no word for the last day of a month, or its second Monday",
            ErrorKind.WRONG_SETTING,
            "Use cron, Kubernetes or 'opskit schedule run', or name the days by numbers.",
        )
    return plain


def _cron(settings: Settings, cluster: ClusterSettings, schedule: str) -> str:
    # In a crontab "%" ends the command.
    line = " && ".join(_commands(settings, cluster, _own())).replace("%", "\\%")
    return (
        "# A line for crontab -e. Times are UTC where the daemon knows CRON_TZ; a machine that sleeps at that\n"
        "# time makes no backup.\n"
        "CRON_TZ=UTC\n"
        f"{schedule} {line}\n"
    )


def _kubernetes(settings: Settings, cluster: ClusterSettings, schedule: str) -> str:
    script = " && ".join(_commands(settings, cluster, ["opskit"]))
    quoted = script.replace("'", "''")
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: opskit-backup-{cluster.name.replace("_", "-")}
spec:
  schedule: "{schedule}"
  timeZone: Etc/UTC
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 43200
  jobTemplate:
    spec:
      backoffLimit: 3
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: opskit
              image: opskit    # yours: with opskit installed
              command: ["sh", "-c", '{quoted}']
              volumeMounts:
                - name: opskit
                  mountPath: {settings.file.parent if settings.file else "/etc/opskit"}
          volumes:
            - name: opskit     # opskit.toml, the service file, the repository
              persistentVolumeClaim:
                claimName: opskit
"""
