"""Outputs of cells as they arrive and as they are kept: without secrets, and whole on disk."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.model.secrets import Scrubber

SECRETIVE = ("stream", "display_data", "update_display_data", "execute_result", "error")
OURS = "application/vnd.opskit."
# Fields of our records that programs read, which hold a word of ours or a number written as text.
FIXED = {"format", "outcome", "result", "started_at", "ended_at", "opskit_version"}
# A secret that was printed in two pieces is no longer than this.
SEAM = 4096


class Messages:
    """Hides secrets in what a kernel sends."""

    def __init__(self, secrets: Scrubber) -> None:
        self._secrets = secrets

    def scrub(self, message: dict[str, Any]) -> None:
        """Replace the content of a message that becomes an output by one without secrets."""
        kind = message["msg_type"]
        if kind in SECRETIVE or kind.startswith("comm"):
            content = dict(message["content"])
            for key, value in content.items():
                if key == "data" and not kind.startswith("comm"):
                    content[key] = scrubbed_bundle(value, self._secrets)
                elif key not in ("name", "transient", "comm_id"):
                    content[key] = self._secrets.data(value)
            message["content"] = content

    def append(self, outputs: list[Any], message: dict[str, Any]) -> Any:
        """Append what was printed to what the same stream printed before; that output, or `None` for a new one.

        Both streams together take two outputs, however they alternate: so a secret that arrives in pieces is whole.
        """
        if message["msg_type"] != "stream":
            return None
        name, text = message["content"]["name"], message["content"]["text"]
        for last in reversed(outputs):
            if last.output_type != "stream":
                break
            if last.name == name:
                seam = max(0, len(last.text) - SEAM)
                last.text = last.text[:seam] + self._secrets.text(last.text[seam:] + text)
                return last
        return None


def scrubbed_bundle(bundle: Mapping[str, Any], secrets: Scrubber) -> dict[str, Any]:
    """What a cell displayed, by MIME type, without secrets. Pictures hold none that could be read."""
    return {
        kind: (
            _record(data, secrets)
            if kind.startswith(OURS)
            else data
            if kind.startswith("image/") and kind != "image/svg+xml"
            else secrets.data(data)
        )
        for kind, data in bundle.items()
    }


def _record(data: Any, secrets: Scrubber) -> Any:
    if isinstance(data, Mapping):
        return {k: v if k in FIXED else _record(v, secrets) for k, v in data.items()}
    if isinstance(data, list):
        return [_record(entry, secrets) for entry in data]
    return secrets.data(data)


def tidy(notebook: Any, secrets: Scrubber) -> None:
    """Take the secrets that are known out of the sources, too: somebody may have written one into a master."""
    for cell in notebook.cells:
        cell.source = secrets.hide_known(cell.source)


def write_whole(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all should this process end."""
    part = path.with_name(f".{path.name}.part")
    try:
        descriptor = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
