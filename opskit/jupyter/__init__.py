"""The Jupyter Server extension: backups are downloaded through the server that a person works on.

A *request* asks for an archive or a *range* of it. A *transfer* is one person's download of one archive, over however
many requests: it is what the catalog records and the audit log keeps.
"""

from opskit.jupyter._extension import OpskitExtension

__all__ = ["OpskitExtension"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """What Jupyter Server asks of a module that it is told to load."""
    return [{"module": "opskit.jupyter", "app": OpskitExtension}]
