"""Receivers by apprise, which is loaded when there is something to send.

apprise, and the libraries under it, write URLs with their passwords and tokens into logs and warnings: nothing of that
gets out of here but the number of an answer.
"""

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opskit.errors import ErrorKind, InputError
from opskit.model.alarms import Notice
from opskit.model.freshness import Severity

if TYPE_CHECKING:
    from apprise import NotifyBase

_LOGGERS = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "smtplib", "asyncio")
_ANSWER = re.compile(r"\berror=(\d{3})\b")


class Receiver:
    """One URL; `name` may be shown, and `key` kept: nobody makes the URL of it.

    Parameters
    ----------
    number
        Its place among the receivers, from 1 on.
    """

    def __init__(self, url: str, number: int) -> None:
        self.key = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.name = f"receiver {number}"
        self._url = url

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def send(self, notice: Notice) -> str:
        """Send it; why that failed, in words that hold no secret, or nothing when it was taken.

        Raises
        ------
        InputError
            apprise knows no such URL, or is not installed.
        """
        with _quiet() as said:
            import apprise

            plugin = self._plugin()
            kinds = {
                Severity.OK: apprise.NotifyType.SUCCESS,
                Severity.WARNING: apprise.NotifyType.WARNING,
                Severity.CRITICAL: apprise.NotifyType.FAILURE,
            }
            sender = apprise.Apprise()
            sender.add(plugin)
            try:
                taken = sender.notify(
                    title=notice.title,
                    body=notice.text,
                    notify_type=kinds[notice.severity],
                    body_format=apprise.NotifyFormat.TEXT,
                )
            except Exception as error:
                return f"{self.name} did not take it: {type(error).__name__}"
        if taken:
            return ""
        reason = f"it answered {said[-1]}" if said else "it cannot be reached, or refused"
        return f"{self.name} did not take it: {reason}"

    def _plugin(self) -> "NotifyBase":
        try:
            import apprise
        except ModuleNotFoundError:
            raise InputError(
                "apprise, which sends the alarms, is not installed",
                ErrorKind.WRONG_SETTING,
                "Install it: pip install 'opskit[alarms]'.",
            ) from None
        plugin = apprise.Apprise.instantiate(self._url)
        if plugin is None:
            raise InputError(
                f"{self.name} has a URL that apprise does not know",
                ErrorKind.WRONG_SETTING,
                "Write it as apprise's documentation shows for the service, such as 'mailto://…' or 'json://…'.",
            )
        self.name = f"{self.name.partition(' (')[0]} ({plugin.service_name})"
        return plugin


def receivers(urls: Sequence[str]) -> list[Receiver]:
    """A receiver for each URL."""
    return [Receiver(url, number) for number, url in enumerate(urls, 1)]


class _Answers(logging.Handler):
    """Keeps the numbers of answers, and nothing else, of what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += _ANSWER.findall(record.getMessage())


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Let nothing be logged or warned of meanwhile; gives the numbers of answers that were."""
    handler = _Answers()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.propagate, list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [handler]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler.seen
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers = propagate, handlers
