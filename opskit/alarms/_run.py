"""Look at the clusters, and tell what has to be told."""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from opskit.alarms._memory import MemoryFile
from opskit.alarms._receivers import Receiver
from opskit.cluster import Cluster
from opskit.config import Settings
from opskit.errors import InputError, OpskitError, StoreError, unexpected
from opskit.model.alarms import Memory, Notice, decide_alarms
from opskit.model.format import format_time
from opskit.model.freshness import FreshnessFinding, Severity
from opskit.model.secrets import Scrubber

_AT_ONCE = 8  # clusters that are looked at: most of it is waiting for servers and disks

Findings = Mapping[str, Sequence[FreshnessFinding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A notice to one receiver, and why it was not taken; `error` is empty when it was, or was not sent."""

    receiver: str
    notice: Notice
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRun:
    """What was found, and what was told; `error` is why that will be told again, empty when it is remembered."""

    found: Findings
    deliveries: tuple[Delivery, ...]
    error: str = ""

    @property
    def undelivered(self) -> tuple[Delivery, ...]:
        """What nobody took: it is tried again next time."""
        return tuple(delivery for delivery in self.deliveries if delivery.error)


def run_alarms(
    settings: Settings,
    clusters: Sequence[str],
    to: Sequence[Receiver],
    *,
    dry_run: bool = False,
    now: datetime | None = None,
) -> AlarmRun:
    """Look at the clusters once, and tell each receiver what it does not know yet.

    What a receiver does not take is kept for the next time. A state that cannot be kept does not keep an alarm from
    being sent.

    Parameters
    ----------
    dry_run
        Nothing is sent, and nothing remembered.
    now
        When it is done; by default when it is.
    """
    found = _look(settings, clusters, now)
    now = now or datetime.now(UTC)
    memory = MemoryFile(settings.alarms.state or Path("opskit.alarms.json"))
    trouble = ""
    deliveries: list[Delivery] = []
    with ExitStack() as stack:
        if not dry_run:
            try:
                stack.enter_context(memory.held())
            except StoreError as error:
                trouble = error.message
        before = memory.read()
        after: dict[str, Memory] = {}
        for receiver in to:
            known = {
                c: m for c, m in before.get(receiver.key, {}).items() if c in settings.clusters
            }
            decision = decide_alarms(known, found, now, settings.alarms.repeat_after)
            failure = ""
            if decision.notice is not None:
                notice = _signed(decision.notice, now)
                failure = "" if dry_run else _sent(receiver, notice)
                deliveries.append(Delivery(receiver=receiver.name, notice=notice, error=failure))
            after[receiver.key] = decision.if_not if failure else decision.once_told
        if not dry_run and after != before:
            try:
                memory.write(after)
            except StoreError as error:
                trouble = error.message
    return AlarmRun(found=found, deliveries=tuple(deliveries), error=trouble)


def send_test(to: Sequence[Receiver]) -> list[Delivery]:
    """Send every receiver a message that says that it is a test."""
    notice = _signed(
        Notice(
            severity=Severity.OK,
            title="opskit: a test",
            text="This is a test. Alarms of opskit come here.",
        ),
        datetime.now(UTC),
    )
    sent = [(receiver, _sent(receiver, notice)) for receiver in to]
    return [Delivery(receiver=r.name, notice=notice, error=error) for r, error in sent]


def _sent(receiver: Receiver, notice: Notice) -> str:
    """Why it was not taken; one receiver that is wrong keeps no other from hearing."""
    try:
        return receiver.send(notice)
    except InputError as error:
        return error.message


def _look(settings: Settings, clusters: Sequence[str], now: datetime | None) -> Findings:
    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="opskit alarms") as pool:
        return dict(
            zip(
                clusters,
                pool.map(lambda name: _findings(name, settings, now), clusters),
                strict=True,
            )
        )


def _findings(name: str, settings: Settings, now: datetime | None) -> list[FreshnessFinding]:
    cluster = Cluster(name, settings)
    try:
        return cluster.freshness(now)
    except Exception as error:  # whatever it is: who watches must not fall silent over it
        told = error if isinstance(error, OpskitError) else unexpected(error)
        return [
            FreshnessFinding(
                name="alarms", severity=Severity.CRITICAL, message=told.message, hint=told.hint
            )
        ]
    finally:
        if "catalog" in cluster.__dict__:
            cluster.catalog.close()


def _signed(notice: Notice, now: datetime) -> Notice:
    """With where and when it was told, and without what looks like a secret: errors may quote anything."""
    scrubber = Scrubber()
    told = f"{notice.text}\n\nTold by opskit on {socket.gethostname()}, {format_time(now)}"
    return replace(notice, title=scrubber.text(notice.title), text=scrubber.text(told))
