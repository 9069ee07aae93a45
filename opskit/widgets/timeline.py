"""The timeline: what can be restored, as a picture to choose a moment on.

Everything is decided and drawn here: the script beside this module sends what the person wishes, and shows the picture
and the answer. So what can be chosen in the browser is what `opskit.model.reach` grants, and nothing else.
"""

from bisect import bisect_left, bisect_right
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from importlib.resources import files
from typing import Any

import anywidget
import pandas as pd
import traitlets

from opskit.errors import InputError
from opskit.model.local_time import find_zone, parse_local_time
from opskit.model.reach import Answer
from opskit.model.target import time_text
from opskit.reports.scene import LEFT, RIGHT, SHORTEST, Window, read_scene, told, whole
from opskit.reports.ticks import round_step
from opskit.reports.timeline import LEGEND, draw, lanes_end, timeline_at, timeline_view
from opskit.widgets._moments import moment_at, number, short, sides_of, written

LONGEST = timedelta(days=366)
_NARROWEST, _WIDEST = 320.0, 4000.0  # pixels
_STEPS = 100  # that one key press is of what is shown
_BIG = 10


class Timeline(anywidget.AnyWidget):
    """What can be restored, and the moment that is chosen of it.

    Parameters
    ----------
    intervals, backups
        As `Cluster.recoverable` and `Cluster.backups` return them.
    zone
        The zone to show times in besides UTC; by default the browser's.
    """

    _esm = files(__package__).joinpath("timeline.js").read_text(encoding="utf-8")
    _css = files(__package__).joinpath("timeline.css").read_text(encoding="utf-8")
    _picture = traitlets.Dict().tag(sync=True)
    _answer = traitlets.Dict().tag(sync=True)
    _zone = traitlets.Unicode().tag(sync=True)
    _asked = traitlets.Unicode().tag(sync=True)  # the last question that was dealt with

    moment = traitlets.Instance(datetime, allow_none=True)
    """What is chosen, in UTC. It can be set to whatever can be restored."""
    timeline = traitlets.Int(None, allow_none=True, read_only=True)
    """The timeline that `moment` is chosen on: the one that a restore has to follow."""
    reason = traitlets.Unicode(read_only=True)
    """Why the last wish was refused or moved; empty when it was granted as it was."""

    def __init__(
        self, intervals: pd.DataFrame, backups: pd.DataFrame, *, zone: str | None = None
    ) -> None:
        super().__init__()
        self._shown = (intervals, backups)
        self._scene = read_scene(intervals, backups)
        self._window = whole(self._scene, datetime.now(UTC))
        self._is_whole = True
        self._local: tzinfo | None = None
        self._is_granted = False
        self._refused: Answer | None = None
        if zone is not None:
            self._use_zone(zone)
        self._tell(None)
        self._draw()
        self.on_msg(self._receive)

    def show(self, intervals: pd.DataFrame, backups: pd.DataFrame) -> None:
        """Show other intervals and backups; what is chosen and what is shown stay, as far as that still exists."""
        if intervals.equals(self._shown[0]) and backups.equals(self._shown[1]):
            return
        self._shown = (intervals, backups)
        self._scene = read_scene(intervals, backups)
        if self._is_whole:
            self._window = whole(self._scene, datetime.now(UTC), self._window.width)
        self._draw()
        self._look_again()

    def _look_again(self) -> None:
        """Answer the last wish again; what was said of it stays, and nothing is chosen that was not."""
        if self.moment is not None:
            answer = self._scene.reach.choose(self.moment, self.timeline)
            if answer.moment == self.moment:
                self._tell(answer)
            else:
                self._grant(answer)
        elif self._refused is not None:
            answer = self._scene.reach.choose(self._refused.wish)
            if answer.moment is None:
                self._grant(answer)

    def wish(self, moment: datetime, timeline: int | None = None) -> Answer:
        """Wish for a moment as if it had been typed; what became of that.

        A wish that is refused leaves nothing chosen.
        """
        answer = self._scene.reach.choose(moment, timeline)
        self._grant(answer)
        return answer

    def __repr__(self) -> str:
        return timeline_view(self._scene, datetime.now(UTC), self.moment).text

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; the picture and its words for where there is none."""
        shown = super()._repr_mimebundle_(**kwargs)
        bundle, *metadata = shown if isinstance(shown, tuple) else (shown,)
        view = timeline_view(self._scene, datetime.now(UTC), self.moment)
        return ({**(bundle or {}), **view._repr_mimebundle_()}, *metadata)

    @traitlets.validate("moment")
    def _validate_moment(self, proposal: Any) -> datetime | None:
        moment: datetime | None = proposal["value"]
        if moment is None or self._is_granted:
            return moment
        if moment.tzinfo is None:
            raise traitlets.TraitError(f"the time {str(moment)!r} has no time zone")
        answer = self._scene.reach.choose(moment)
        if answer.moment is None:
            raise traitlets.TraitError(f"{time_text(moment)} cannot be chosen: {answer.reason}")
        return answer.moment

    @traitlets.observe("moment")
    def _set(self, change: Any) -> None:
        if not self._is_granted:
            moment: datetime | None = change["new"]
            answer = None if moment is None else self._scene.reach.choose(moment)
            self.set_trait("timeline", None if answer is None else answer.timeline)
            self.set_trait("reason", "")
            self._tell(answer)

    def _grant(self, answer: Answer) -> None:
        """Make an answer what is chosen; observers of `moment` find `timeline` and `reason` up to date."""
        self._is_granted = True
        self._refused = answer if answer.moment is None else None
        try:
            self.set_trait("timeline", answer.timeline)
            self.set_trait("reason", answer.reason)
            self._tell(answer)
            self.moment = answer.moment
        finally:
            self._is_granted = False

    def _receive(self, _: object, content: dict[str, Any], __: object) -> None:
        """Do what the script asks for, and tell it that this is done; see `timeline.js`."""
        with self.hold_sync():
            try:
                self._do(content["do"], content)
            finally:
                self._asked = str(content.get("asked", ""))

    def _do(self, act: str, content: dict[str, Any]) -> None:
        if act in ("fit", "zoom", "pan", "size"):
            self._move_window(act, content)
        elif act == "zone":
            self._take_zone(str(content["zone"]))
        elif act == "type":
            self._typed(str(content["text"]), bool(content["local"]), content.get("timeline"))
        else:
            self._choose(act, content)

    def _choose(self, act: str, content: dict[str, Any]) -> None:
        reach, timeline = self._scene.reach, content.get("timeline")
        if act == "wish":
            near = timedelta(microseconds=int(content.get("near", 0)))
            if timeline is None and "y" in content:
                timeline = timeline_at(self._scene, float(content["y"]))
            self._grant(reach.choose(moment_at(content["at"]), timeline, near))
            return
        start = self.moment or reach.last
        if start is None:
            self._grant(reach.choose(datetime.now(UTC)))
        elif act == "end":
            self._grant(reach.choose((reach.last if content["last"] else reach.first) or start))
        elif act == "step":
            step = round_step((self._window.end - self._window.start) / _STEPS)
            self._grant(reach.step(start, step * int(content["by"]), timeline))
        elif act == "backup":
            self._to_backup(start, int(content["by"]))
        self._follow()

    def _to_backup(self, start: datetime, by: int) -> None:
        """Choose the end of the backup before or after a moment."""
        ends = [mark.at for mark in self._scene.marks]
        at = bisect_right(ends, start) if by > 0 else bisect_left(ends, start) - 1
        if 0 <= at < len(ends):
            self._grant(self._scene.reach.choose(ends[at], self._scene.marks[at].timeline))
        else:
            side = "after" if by > 0 else "before"
            self.set_trait("reason", f"there is no backup {side} {time_text(start)}")
            self._tell_again()

    def _typed(self, text: str, is_local: bool, timeline: int | None) -> None:
        zone = self._local if is_local and self._local is not None else UTC
        try:
            wish = parse_local_time(text, zone)
        except InputError as error:
            self.moment = self._refused = None
            self.set_trait("reason", f"{error.message}. {error.hint.removesuffix('.')}")
            self._tell(None, text)
            return
        self._grant(self._scene.reach.choose(wish, timeline))
        self._follow()

    def _move_window(self, act: str, content: dict[str, Any]) -> None:
        start, end, width = self._window.start, self._window.end, self._window.width
        width = min(max(float(content.get("width", width)), _NARROWEST), _WIDEST)
        if act == "fit" or (act == "size" and self._is_whole):
            self._window = whole(self._scene, datetime.now(UTC), width)
            self._is_whole = True
        elif act == "size":
            self._window = Window(start, end, width)
        elif act == "pan":
            by = (end - start) * float(content["by"])
            self._show_window(start + by, end + by)
        else:
            around = moment_at(content["around"]) if "around" in content else self._middle()
            span = min(max((end - start) * float(content["by"]), SHORTEST), self._longest())
            share = (around - start) / (end - start)
            self._show_window(around - span * share, around - span * share + span)
        self._draw()

    def _middle(self) -> datetime:
        """What a key zooms around: what is chosen, where that is shown."""
        window = self._window
        if self.moment is not None and window.start <= self.moment <= window.end:
            return self.moment
        return window.start + (window.end - window.start) / 2

    def _longest(self) -> timedelta:
        everything = whole(self._scene, datetime.now(UTC))
        return max(LONGEST, everything.end - everything.start)

    def _show_window(self, start: datetime, end: datetime) -> None:
        self._window = Window(start, end, self._window.width)
        self._is_whole = False

    def _follow(self) -> None:
        """Move what is shown to what is chosen."""
        window = self._window
        if self.moment is None or window.start <= self.moment <= window.end:
            return
        span = window.end - window.start
        self._show_window(self.moment - span / 2, self.moment + span / 2)
        self._draw()

    def _take_zone(self, name: str) -> None:
        """Show times in the browser's zone, too, where this machine knows it."""
        if not self._zone:
            with suppress(InputError):
                self._use_zone(name)
                self._draw()
                self._tell_again()

    def _use_zone(self, name: str) -> None:
        zone = find_zone(name)
        self._local = None if zone is UTC else zone
        self._zone = name

    def _draw(self) -> None:
        window, now = self._window, datetime.now(UTC)
        reach = self._scene.reach
        self._picture = {
            "svg": draw(self._scene, window, now, zone=self._local),
            "lanes_end": lanes_end(self._scene),
            "start": number(window.start),
            "end": number(window.end),
            "left": LEFT,
            "right": window.width - RIGHT,
            "span": f"{short(window.start)} to {short(window.end)} UTC",
            "first": None if reach.first is None else number(reach.first),
            "last": None if reach.last is None else number(reach.last),
            "timelines": list(reach.timelines),
            "words": [*told(self._scene), LEGEND],
            "gaps": len(reach.gaps),
        }

    def _tell_again(self) -> None:
        answer = (
            None if self.moment is None else self._scene.reach.choose(self.moment, self.timeline)
        )
        self._tell(answer)

    def _tell(self, answer: Answer | None, text: str = "") -> None:
        """Tell the script what became of the last wish; `text` is one that could not be read."""
        moment = None if answer is None else answer.moment
        wish = None if answer is None else answer.wish
        sides = {} if answer is None or moment == wish else sides_of(answer)
        self._answer = {
            "at": None if moment is None else number(moment),
            "timeline": None if answer is None else answer.timeline,
            "reason": f"{self.reason[:1].upper()}{self.reason[1:]}{'.' if self.reason else ''}",
            "sides": [{"at": number(at), "text": name} for name, at in sides.items()],
            "utc": text or written(moment or wish, UTC),
            "local": text or written(moment or wish, self._local),
            "said": self._said(answer),
        }

    def _said(self, answer: Answer | None) -> str:
        """What is chosen, for screen readers."""
        if answer is None or answer.moment is None:
            return "nothing chosen"
        parts = [time_text(answer.moment)]
        if self._local is not None:
            parts.append(f"{written(answer.moment, self._local)} {self._zone}")
        ends = [mark.at for mark in self._scene.marks]
        at = bisect_left(ends, answer.moment)
        if at < len(ends) and ends[at] == answer.moment:
            mark = self._scene.marks[at]
            parts.append(f"the end of {mark.kind} backup {mark.name}")
        return ", ".join([*parts, f"timeline {answer.timeline}"])
