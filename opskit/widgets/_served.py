"""Links that a browser can open from a panel: to notebooks and pages below the root of the Jupyter server."""

import json
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from jupyter_core.paths import jupyter_runtime_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The Jupyter server that a kernel belongs to: what it calls its root, and where it answers."""

    root: Path
    base_url: str

    def page(self, path: Path) -> str | None:
        """Where the browser gets a file as it is; `None` for one that is not below the root."""
        return self._url("files", path)

    def document(self, path: Path) -> str | None:
        """Where JupyterLab opens a file; `None` for one that is not below the root."""
        return self._url("lab/tree", path)

    def below(self, path: Path) -> str | None:
        """What JupyterLab calls a file; `None` for one that is not below the root, or hidden."""
        try:
            below = path.resolve().relative_to(self.root)
        except (OSError, ValueError):
            return None
        if any(part.startswith(".") for part in below.parts):  # the server hides those
            return None
        return below.as_posix()

    def _url(self, place: str, path: Path) -> str | None:
        below = self.below(path)
        if below is None:
            return None
        return f"{self.base_url}{place}/{quote(below, errors='surrogateescape')}"


def jupyter_server() -> Served | None:
    """The server that started this kernel; `None` where there is none, or none that tells of itself."""
    file = Path(jupyter_runtime_dir()) / f"jpserver-{os.getppid()}.json"  # it writes that itself
    try:
        server = json.loads(file.read_bytes())
        return Served(root=Path(server["root_dir"]).resolve(), base_url=str(server["base_url"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def link(url: str | None, text: str, title: str, path: str | None = None) -> str:
    """A link that opens beside the panel, as HTML; plain text where there is no `url`.

    Parameters
    ----------
    path
        What JupyterLab calls the file: where it is given, JupyterLab opens it in the same window.
    """
    if url is None:
        return f"<code>{escape(text)}</code>"
    command = ""
    if path is not None:
        arguments = escape(json.dumps({"path": path}))
        command = (
            f' data-commandlinker-command="docmanager:open" data-commandlinker-args="{arguments}"'
        )
    return (
        f'<a href="{escape(url)}" target="_blank" rel="noopener" title="{escape(title)}"{command}>'
        f"{escape(text)}</a>"
    )
