"""Python's collector of cycles, put off while many small values are made that stay."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Put it off: it would look at all of them again and again, and in a notebook's kernel at all that was imported.

    That took two thirds of planning a crowded chain.
    """
    if not gc.isenabled():  # by who is further out, or for the whole process
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
