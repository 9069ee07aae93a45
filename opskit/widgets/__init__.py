"""Panels for JupyterLab: what is known and can be done, with buttons.

A *panel* is what one notebook shows. It is composed of small parts: a *card* tells of one operation or error; the
*watch* is the thread that looks at the catalog. No panel works itself: what it starts is an operation in a process of
its own, so a panel may be closed, made again or doubled at any time, and finds what is running.
"""

from opskit.widgets.backups import BackupsPanel, backups_panel
from opskit.widgets.clusters import ClustersPanel, clusters_panel
from opskit.widgets.reports import ReportsPanel, reports_panel
from opskit.widgets.restore import RestorePanel, restore_panel
from opskit.widgets.start import StartPanel, start_panel

__all__ = [
    "BackupsPanel",
    "ClustersPanel",
    "ReportsPanel",
    "RestorePanel",
    "StartPanel",
    "backups_panel",
    "clusters_panel",
    "reports_panel",
    "restore_panel",
    "start_panel",
]
