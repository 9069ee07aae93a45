"""Python, started anew."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def python(code: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a new process."""
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=PROJECT,
        text=True,
        capture_output=True,
        timeout=60,
    )
