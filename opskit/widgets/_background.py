"""What a panel waits for without standing still: asked by a button, found out in a thread; the last question wins."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Background(Generic[Question, Answer]):
    """Answers questions one after the other in a thread that lives while there are any.

    Only for what reads and is quick enough to be lost with the kernel: whatever works is an operation. `question` is
    the one that was asked last, `answer` or `error` what came of it; both are `None` until then.

    Parameters
    ----------
    work
        Gives the answer to a question. Must not print: what a thread prints lands in whichever cell runs.
    done
        Called in the thread when there is an answer.
    """

    def __init__(
        self, work: Callable[[Question], Answer], done: Callable[[], None] = lambda: None
    ) -> None:
        self._work, self._done = work, done
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_new = False
        self.question: Question | None = None
        self.answer: Answer | None = None
        self.error: Exception | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the last question is still to be answered."""
        return self._thread is not None

    def ask(self, question: Question | None) -> None:
        """Ask something else, or, by `None`, nothing more; the same question is asked again."""
        with self._lock:
            self.question, self.answer, self.error = question, None, None
            self._is_new = question is not None
            if self._is_new and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="opskit panel's work", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                question = self.question
                if not self._is_new or question is None:
                    self._thread = None
                    break
                self._is_new = False
            answer, error = None, None
            try:
                answer = self._work(question)
            except Exception as raised:
                error = raised
            with self._lock:
                if not self._is_new and self.question is not None:
                    self.answer, self.error = answer, error
        self._done()
