"""What can be restored, as a picture: an ``<svg>`` of any stretch of time, and the same in words.

It is drawn in the colour of the text around it, so that it reads on light and dark pages; the colours of the bars stand
out on both, and no difference is one of colour alone. It needs no script and no style sheet.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from itertools import pairwise

import pandas as pd

from opskit.model.reach import Break
from opskit.reports.drawing import BLUE, ORANGE
from opskit.reports.format import format_time
from opskit.reports.scene import (
    LEFT,
    RIGHT,
    Mark,
    Scene,
    Window,
    counted,
    read_scene,
    told,
    whole,
)
from opskit.reports.ticks import ticks
from opskit.reports.view import View

TITLE = "What can be restored"
LEGEND = (
    "Solid bars can be restored, striped ones are gaps; a thin line: no transaction ended. "
    "▲ full backup, △ incremental; a number counts backups. Times are UTC."
)
_TOP, _LANE, _AXIS = 14, 46, 18
_BAR_AT, _BAR = 16.0, 12.0
_CROWDED = 13.0  # pixels: where backups are nearer to each other, they are drawn as numbers
_PILE = 28.0  # pixels that a number takes
_SLIT = 2.0
_WORD = 26.0  # pixels that a word over a break takes
_WORDS = 52.0  # pixels from which two gaps are named each
_TICK = 118.0  # pixels that the longest label of a tick takes


def timeline_svg(
    intervals: pd.DataFrame,
    backups: pd.DataFrame,
    now: datetime,
    *,
    window: Window | None = None,
    zone: tzinfo | None = None,
    moment: datetime | None = None,
) -> str:
    """What can be restored, as an ``<svg>`` that says in words what it shows.

    Parameters
    ----------
    intervals, backups
        As of `opskit.reports.recoverable.recoverable_table` and `opskit.reports.tables.backups_table`.
    window
        What to show; by default everything.
    zone
        A zone to show times in besides UTC.
    moment
        A time to mark.
    """
    scene = read_scene(intervals, backups)
    return draw(scene, window or whole(scene, now), now, zone=zone, moment=moment)


def timeline_view(scene: Scene, now: datetime, moment: datetime | None = None) -> View:
    """The whole scene as a figure, and its words, for where nobody can point at it."""
    svg = draw(scene, whole(scene, now), now, moment=moment)
    words = told(scene)
    chosen = [] if moment is None else [f"Chosen: {format_time(moment)}."]
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in [*words, *chosen])
    return View(
        html=f'<figure class="opskit-timeline"><figcaption><b>{TITLE}</b></figcaption>{svg}'
        f"<p>{LEGEND}</p><ul>{listed}</ul></figure>",
        text="\n".join([f"{TITLE}:", *words, *chosen]),
        data={"image/svg+xml": _on_white(svg)},
    )


def height(scene: Scene, zone: tzinfo | None = None) -> float:
    """How high the picture is, in pixels."""
    return lanes_end(scene) + _AXIS * (1 if zone is None else 2) + 4


def timeline_at(scene: Scene, y: float) -> int | None:
    """The timeline that is drawn so many pixels below the picture's upper edge, if one is that leads anywhere."""
    row = int((y - _TOP) // _LANE)
    drawn = scene.timelines[row : row + 1] if row >= 0 else []
    return drawn[0] if drawn and drawn[0] in scene.reach.timelines else None


def draw(
    scene: Scene,
    window: Window,
    now: datetime,
    *,
    zone: tzinfo | None = None,
    moment: datetime | None = None,
) -> str:
    """A window of a scene; see `timeline_svg`."""
    bottom = lanes_end(scene)
    parts = [_axis(window, bottom, UTC, "UTC")]
    if zone is not None:
        parts.append(_axis(window, bottom + _AXIS, zone, str(zone)))
    if window.start < now < window.end:
        parts.append(_upright(window.x(now), bottom, "now", dashes="2 3"))
    if not scene.timelines:
        place = f'x="{LEFT}" y="{_TOP + _BAR_AT + _BAR}"'
        parts.append(f"<text {place}>{escape(told(scene)[0])}</text>")
    for row, timeline in enumerate(scene.timelines):
        parts += _lane(scene, timeline, window, _TOP + row * _LANE)
    if moment is not None and window.start <= moment <= window.end:
        parts.append(_upright(window.x(moment), bottom, "", dashes=""))
    size = f'width="{window.width:.0f}" height="{height(scene, zone):.0f}"'
    box = f'viewBox="0 0 {window.width:.0f} {height(scene, zone):.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{TITLE}: {_words(scene)}" {size} {box}'
        ' style="max-width:100%;height:auto" font-family="system-ui, sans-serif" font-size="12"'
        f' fill="currentColor">{"".join(parts)}</svg>'
    )


def _words(scene: Scene) -> str:
    return escape(" ".join(told(scene)), quote=True)


def lanes_end(scene: Scene) -> float:
    """Where the lanes end and the axis begins, in pixels from the upper edge."""
    return _TOP + max(len(scene.timelines), 1) * _LANE + 2


def _on_white(svg: str) -> str:
    """For where it stands as an image of its own, which knows nothing of the page's colours."""
    head, _, rest = svg.partition(">")
    return f'{head} color="#1f2937"><rect width="100%" height="100%" fill="#fff"/>{rest}'


def _axis(window: Window, y: float, zone: tzinfo, name: str) -> str:
    """Times below the lanes, as a zone's clocks tell them; the ticks are round in UTC."""
    room = window.width - LEFT - RIGHT
    most = max(2, int(room / _TICK))
    parts = [
        f'<text x="{LEFT - 10:.0f}" y="{y + 14:.1f}" text-anchor="end">{escape(_short(name))}</text>'
    ]
    for time, label in ticks(window.start, window.end, most, zone):
        x = window.x(time)
        up = f'<path d="M{x:.1f} {_TOP}V{y + 3:.1f}" stroke="currentColor" stroke-opacity=".18"/>'
        anchor = "start" if x < LEFT + 64 else "end" if x > window.width - 50 else "middle"
        place = f'x="{x:.1f}" y="{y + 14:.1f}" text-anchor="{anchor}"'
        parts.append(f"{up if zone is UTC else ''}<text {place}>{escape(label)}</text>")
    return "".join(parts)


def _short(zone: str) -> str:
    city = zone.rpartition("/")[2].replace("_", " ")
    return city if len(city) <= 12 else city[:11] + "…"


def _upright(x: float, bottom: float, word: str, *, dashes: str) -> str:
    style = f' stroke-dasharray="{dashes}"' if dashes else ' stroke-width="2"'
    label = (
        f'<text x="{x - 4:.1f}" y="{_TOP - 4}" text-anchor="end" font-size="11">{word}</text>'
        if word
        else ""
    )
    return f'<path d="M{x:.1f} 2V{bottom:.1f}" stroke="currentColor"{style}/>{label}'


def _lane(scene: Scene, timeline: int, window: Window, top: float) -> list[str]:
    y = top + _BAR_AT
    parts = [
        f'<text x="{LEFT - 10:.0f}" y="{y + _BAR - 2:.1f}" text-anchor="end">timeline {timeline}</text>'
    ]
    ranges = scene.reach.ranges.get(timeline, [])
    bars = [(r.from_at, r.to_at) for r in ranges if window.shows(r.from_at, r.to_at)]
    breaks = scene.reach.breaks.get(timeline, [])
    between = [b for b in breaks if window.shows(b.after, b.until)]
    parts += [_break(b, window, y) for b in between]
    for x, end in _joined([(window.x(start), window.x(end)) for start, end in bars]):
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(end - x, 2.0):.1f}" height="{_BAR}" rx="1.5" fill="{BLUE}"/>'
        )
    parts += _slits(between, window, y)
    parts += _named(between, window, y)
    marks = [m for m in scene.marks if m.timeline == timeline and window.shows(m.at, m.at)]
    parts += [_marked(group, window, y + _BAR + 3) for group in _groups(marks, window)]
    return parts


def _joined(bars: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Bars of pixels, rising; those with less than a pixel between them as one."""
    joined: list[tuple[float, float]] = []
    for start, end in bars:
        if joined and start - joined[-1][1] < 1:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _break(between: Break, window: Window, y: float) -> str:
    start, end = window.x(between.after), window.x(between.until)
    if end - start < _SLIT:
        return ""
    middle = y + _BAR / 2
    look = (
        f'stroke="{BLUE}" stroke-width="2"'
        if between.is_idle
        else f'stroke="{ORANGE}" stroke-width="{_BAR}" stroke-dasharray="2 4"'
    )
    said = escape(f"{_name(between)}: {between}")
    return f'<g><title>{said}</title><path d="M{start:.1f} {middle:.1f}H{end:.1f}" {look}/></g>'


def _named(breaks: Sequence[Break], window: Window, y: float) -> list[str]:
    """The word over each gap, or over so many that stand close together, and over idle times that have room for it."""
    words: list[tuple[float, str]] = []
    groups: list[list[float]] = []
    for between in breaks:
        start, end = window.x(between.after), window.x(between.until)
        if between.is_idle:
            words += [((start + end) / 2, "idle")] if end - start > _WORD else []
        elif groups and (start + end) / 2 - groups[-1][0] < _WORDS:
            groups[-1].append((start + end) / 2)
        else:
            groups.append([(start + end) / 2])
    for group in groups:
        word = "gap" if len(group) == 1 else f"{len(group)} gaps"
        words.append(((group[0] + group[-1]) / 2, word))
    parts: list[str] = []
    free = 0.0
    for x, word in sorted(words):
        half = 3.2 * len(word)
        if x - half < free:
            continue
        free = x + half
        place = f'x="{min(x, window.width - half):.1f}" y="{y - 5:.1f}"'
        parts.append(f'<text {place} text-anchor="middle" font-size="11">{word}</text>')
    return parts


def _name(between: Break) -> str:
    return "idle" if between.is_idle else "gap"


def _slits(breaks: Sequence[Break], window: Window, y: float) -> list[str]:
    """Gaps that would be too narrow to be seen, at most one a pixel."""
    places = {
        round(window.x(gap.after))
        for gap in breaks
        if not gap.is_idle and window.x(gap.until) - window.x(gap.after) < _SLIT
    }
    path = "".join(f"M{x} {y - 3:.1f}v{_BAR / 2:.1f}" for x in sorted(places))
    return [f'<path d="{path}" stroke="{ORANGE}" stroke-width="{_SLIT}"/>'] if path else []


def _groups(marks: Sequence[Mark], window: Window) -> list[list[Mark]]:
    """Backups that are drawn as one, by rising time."""
    places = [window.x(mark.at) for mark in marks]
    if all(after - before >= _CROWDED for before, after in pairwise(places)):
        return [[mark] for mark in marks]
    groups: list[list[Mark]] = []
    begins = 0.0
    for mark, x in zip(marks, places, strict=True):
        if groups and x - begins < _PILE:
            groups[-1].append(mark)
        else:
            groups.append([mark])
            begins = x
    return groups


def _marked(group: Sequence[Mark], window: Window, y: float) -> str:
    first, last = group[0], group[-1]
    if len(group) == 1:
        x = window.x(first.at)
        said = f"{first.kind} backup {first.name}, {first.trigger}, ended {format_time(first.at)}"
        look = (
            'fill="currentColor"'
            if first.kind == "full"
            else 'fill="none" stroke="currentColor" stroke-width="1.4"'
        )
        shape = f'<path d="M{x:.1f} {y:.1f}l5.5 10h-11z" {look}/>'
    else:
        x = (window.x(first.at) + window.x(last.at)) / 2
        said = f"{counted(group)}, {format_time(first.at)} to {format_time(last.at)}"
        number = f"{len(group)}" if len(group) < 1000 else f"{len(group) / 1000:.0f}k"
        half = 4 + 3.4 * len(number)
        shape = (
            f'<rect x="{x - half:.1f}" y="{y - 1:.1f}" width="{2 * half:.1f}" height="13" rx="3"'
            ' fill="none" stroke="currentColor" stroke-opacity=".7"/>'
            f'<text x="{x:.1f}" y="{y + 9.5:.1f}" text-anchor="middle" font-size="10.5">{number}</text>'
        )
    return f"<g><title>{escape(said)}</title>{shape}</g>"
