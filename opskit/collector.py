"""Python's collector of cyclic garbage, which a process hardly needs that lives for one piece of work.

It walks through everything that was imported, again and again while that grows, and once more when the process ends: a
quarter of the time of a short command.
"""

import atexit
import gc

_CONTAINERS = 50_000  # made since it looked last, before it looks again; Python's own figure is 700


def collect_seldom() -> None:
    """Look for cycles seldom in this process, and not among what is left when it ends."""
    gc.set_threshold(_CONTAINERS)
    atexit.register(gc.freeze)
