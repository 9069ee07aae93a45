"""Alarms: what is wrong with the clusters, told to whom it concerns, once.

A *receiver* is one URL of apprise: a mailbox, a webhook, a chat. A *notice* is one message. Which findings there are is
known by `opskit.cluster`, and which of them are told by `opskit.model.alarms`; here they are sent, and remembered.
"""

from opskit.alarms._receivers import Receiver, receivers
from opskit.alarms._run import AlarmRun, Delivery, run_alarms, send_test

__all__ = ["AlarmRun", "Delivery", "Receiver", "receivers", "run_alarms", "send_test"]
