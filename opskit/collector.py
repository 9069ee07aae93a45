"""Python's collector of cyclic garbage, which a process hardly needs that lives for one piece of work.

It walks through everything that was imported, again and again while that grows, and once more when the process ends: a
quarter of the time of a short command.
"""

import atexit
import gc

# Made since it looked last, before it looks again; Python's own figure is 700. What a backup loads are more than
# 100,000, which are no garbage, and take 0.05 s to walk through.
_CONTAINERS = 200_000


def collect_seldom() -> None:
    """Look for cycles seldom in this process, and not among what is left when it ends."""
    gc.set_threshold(_CONTAINERS)
    atexit.register(gc.freeze)
