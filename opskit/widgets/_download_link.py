"""A link by which the browser downloads a backup from the Jupyter server that its page came from."""

import shlex
from importlib.resources import files

import anywidget
import traitlets


class DownloadLink(anywidget.AnyWidget):
    """The archive's name and size as a link to the stream of `opskit.jupyter`, found by the page's own base URL.

    Setting `cluster` or `backup` leads it elsewhere; with an empty `backup` it leads nowhere. Where the page has no
    such server (VS Code, an exported notebook) it names the command that does the same.

    Parameters
    ----------
    cluster
        Its name in the server's configuration.
    backup
        A backup's name, ``latest`` or nothing.
    """

    _esm = files(__package__).joinpath("download_link.js").read_text(encoding="utf-8")
    _css = files(__package__).joinpath("download_link.css").read_text(encoding="utf-8")
    cluster = traitlets.Unicode().tag(sync=True)
    backup = traitlets.Unicode().tag(sync=True)

    def __init__(self, cluster: str, backup: str = "") -> None:
        super().__init__(cluster=cluster, backup=backup)

    def __repr__(self) -> str:
        return shlex.join(["opskit", "download", self.cluster, self.backup or "latest"])
