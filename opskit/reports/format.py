"""Sizes, durations and times as people read them; see `opskit.model.format`, where every floor finds them."""

from opskit.model.format import format_bytes, format_duration, format_time

__all__ = ["format_bytes", "format_duration", "format_time"]
