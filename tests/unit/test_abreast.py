"""Many small things are read, by one thread or by several."""

import threading

from opskit.repository.abreast import read_all

NAMES = range(10_000)


class Clock:
    """A time that passes only where it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """The seconds until now."""
        return self.seconds


def test_what_is_quick_stays_in_its_thread() -> None:
    """Nothing is handed to another thread while nothing is waited for."""
    read = read_all(lambda name: (name, threading.current_thread()), NAMES, Clock())
    assert list(read) == [(name, threading.current_thread()) for name in NAMES]


def test_what_waits_is_read_abreast() -> None:
    """Where each alone takes long others go on beside it, and the order stays."""
    clock, together, alone = Clock(), threading.Barrier(4, timeout=30), threading.current_thread()

    def read(name: int) -> int:
        if threading.current_thread() is alone:
            clock.seconds += 0.02
        elif name in (20, 40, 60, 80):  # of four batches: nobody passes without the others
            together.wait()
        return name

    assert list(read_all(read, NAMES, clock)) == list(NAMES)


def test_a_moment_s_load_is_not_for_ever() -> None:
    """What was slow once, and is no quicker with others, is soon read by one thread again."""
    clock, alone, mine = Clock(), threading.current_thread(), 0

    def read(name: int) -> int:
        nonlocal mine
        mine += threading.current_thread() is alone
        clock.seconds += 0.01 if name < 16 else 0.0001
        return name

    assert list(read_all(read, NAMES, clock)) == list(NAMES)
    assert mine > len(NAMES) * 0.6
