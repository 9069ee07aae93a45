"""The kernel that runs a runbook: the running interpreter's own.

A kernel specification called ``python3`` may be registered for another Python, or not at all (a bare virtual
environment): neither is asked. The working directory is no place to import from, so that a file lying there cannot
stand in for a library.
"""

import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import default


class OwnKernelSpecs(KernelSpecManager):
    """Answers every name with the running interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The running interpreter's kernel, whatever `kernel_name` is."""
        return KernelSpec(
            argv=[
                sys.executable,
                "-P",
                "-m",
                "ipykernel",
                "-f",
                "{connection_file}",
                "--IPKernelApp.ignore_cwd=True",
            ],
            display_name="Python 3",
            language="python",
            name=kernel_name,
        )


class OwnKernelManager(AsyncKernelManager):
    """Starts `OwnKernelSpecs`' kernel."""

    @default("kernel_spec_manager")
    def _own_kernel_specs(self) -> Any:
        return OwnKernelSpecs(parent=self)
