"""The extension as Jupyter Server loads and configures it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_server.extension.application import ExtensionApp
from traitlets import Float, Unicode

from opskit.errors import Cancelled
from opskit.jupyter._archives import Archives
from opskit.jupyter._handler import PLACE, DownloadHandler
from opskit.jupyter._transfers import Transfers

_THREADS = 8
_STOP_SECONDS = 5.0


class OpskitExtension(ExtensionApp):
    """Downloads of backups through Jupyter Server."""

    name = "opskit"

    configuration = Unicode(
        "",
        help="The opskit.toml; by default $OPSKIT_CONFIG, ./opskit.toml where the server was started, or the user's.",
    ).tag(config=True)
    resume_seconds = Float(
        60.0,
        min=0.0,
        help="For how long a download that was cut stays the same operation, for the browser to go on with it.",
    ).tag(config=True)

    def initialize_handlers(self) -> None:
        """Add the downloads to the server."""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="opskit")
        self._transfers = Transfers(self.resume_seconds)
        shared = {
            "threads": self._threads,
            "archives": Archives(Path(self.configuration) if self.configuration else None),
            "transfers": self._transfers,
        }
        self.handlers.append((f"/{PLACE}.*", DownloadHandler, shared))

    async def stop_extension(self) -> None:
        """End the downloads that are under way, each with its record."""
        reason = Cancelled("the Jupyter server was stopped")
        await asyncio.get_running_loop().run_in_executor(
            None, self._transfers.stop, reason, _STOP_SECONDS
        )
        self._threads.shutdown(wait=False, cancel_futures=True)
