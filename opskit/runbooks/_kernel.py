"""The kernel that runs a runbook: the running interpreter's own.

A kernel specification called ``python3`` may be registered for another Python, or not at all (a bare virtual
environment): neither is asked. The working directory is no place to import from, so that a file lying there cannot
stand in for a library. A guard leads the kernel's process group; see `opskit.runbooks._guard`.
"""

import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.paths import jupyter_runtime_dir
from traitlets import Unicode, default

# A socket's path has at most 107 bytes (unix(7)); ours is the connection file's with "-ipc-1" in place of ".json".
SOCKET_PATH = 100
PYTHON = [sys.executable, "-P", "-m"]


class OwnKernelSpecs(KernelSpecManager):
    """Answers every name with the running interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The running interpreter's kernel, whatever `kernel_name` is."""
        manager: Any = self.parent
        guard = [*PYTHON, "opskit.runbooks._guard", str(os.getpid()), manager.answered_for]
        kernel = [*PYTHON, "opskit.runbooks._ipykernel", "-f", "{connection_file}"]
        kernel.append("--IPKernelApp.ignore_cwd=True")
        return KernelSpec(
            argv=[*guard, *kernel], display_name="Python 3", language="python", name=kernel_name
        )


class OwnKernelManager(AsyncKernelManager):
    """Starts `OwnKernelSpecs`' kernel, and talks to it over sockets in a private directory instead of TCP ports.

    Then no two kernels that start at once take the same port, and nobody else on the machine can connect.
    """

    # The executed notebook that the guard puts right should this process be killed; empty when somebody else does.
    answered_for = Unicode("")

    @default("kernel_spec_manager")
    def _own_kernel_specs(self) -> Any:
        return OwnKernelSpecs(parent=self)

    @default("shutdown_wait_time")
    def _time_to_stop_servers(self) -> float:
        return 20.0

    @default("transport")
    def _sockets(self) -> str:
        return "ipc" if len(self.connection_file) < SOCKET_PATH else "tcp"

    @default("connection_file")
    def _in_runtime_directory(self) -> str:
        return str(Path(jupyter_runtime_dir()) / "kernel.json")
