"""Which process writes a row, so that another one can tell whether it still lives.

A pid alone is not enough: it is used again after its process ended, and two containers may share a host's name. The
identity adds the kernel's boot, the pid namespace, and the process's start time (proc(5), ``/proc/pid/stat`` field 22).
"""

from pathlib import Path

_PROC = Path("/proc")


def process_identity(pid: int) -> str:
    """``<boot>:<pid namespace>:<start time>``; empty when the process is gone or the system does not tell."""
    state = _state_and_start(pid)
    return "" if state is None or state[0] in "ZX" else f"{_place()}:{state[1]}"


def process_is_gone(pid: int, identity: str) -> bool:
    """Whether the process has certainly ended; false when it lived in another place, where nobody here can look."""
    place, _, _ = identity.rpartition(":")
    return bool(place) and place == _place() and process_identity(pid) != identity


def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot}:{namespace}"


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """The state's letter and the start time in clock ticks since the boot."""
    try:
        content = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = content.rpartition(")")[
        2
    ].split()  # the command's name before may hold spaces and brackets
    return fields[0], fields[19]
