"""The frame of a card: a heading with a mark, facts below it, and what else there is to say.

It stands on its own in JupyterLab, light or dark; in a report its classes take the page's style.
"""

from collections.abc import Mapping
from enum import StrEnum
from html import escape

_EDGE = "var(--jp-border-color2, #c4c9d1)"
_CARD = f"border:1px solid {_EDGE};border-left:6px solid {{colour}};border-radius:4px;padding:.6em 1em;max-width:60em"
_LIST = (
    "display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.1em 1.2em;margin:.5em 0 0"
)
_TERM = "font-weight:normal;float:none;width:auto;margin:0;padding:0;opacity:.8"
_FACT = "float:none;width:auto;margin:0;padding:0;overflow-wrap:anywhere"


class Tone(StrEnum):
    """Good news, bad news, news that want a look, or none of them."""

    GOOD = "good"
    BAD = "bad"
    ODD = "odd"
    CALM = "calm"


# The edge alone is coloured; what it means is told by the mark and the words.
_COLOURS = {
    Tone.GOOD: "#2E8B57",
    Tone.BAD: "#D9480F",
    Tone.ODD: "#B7791F",
    Tone.CALM: "#3B7DD8",
}
_MARKS = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.ODD: "!", Tone.CALM: ""}


def draw_card(
    title: str,
    facts: Mapping[str, str],
    *,
    tone: Tone = Tone.CALM,
    told: str = "",
    below: str = "",
) -> str:
    """A card as HTML.

    Parameters
    ----------
    facts
        Names and what they are; a row each, those that are empty left out.
    told
        A sentence under the title.
    below
        HTML under the facts.
    """
    mark = f'<span aria-hidden="true">{_MARKS[tone]}</span> ' if _MARKS[tone] else ""
    sentence = f'<p style="margin:.2em 0 0">{escape(told)}</p>' if told else ""
    rows = "".join(
        f'<dt style="{_TERM}">{escape(name)}</dt><dd style="{_FACT}">{escape(fact)}</dd>'
        for name, fact in facts.items()
        if fact
    )
    listed = f'<dl style="{_LIST}">{rows}</dl>' if rows else ""
    return (
        f'<div class="opskit-value opskit-{tone}" style="{_CARD.format(colour=_COLOURS[tone])}">'
        f'<p style="margin:0">{mark}<strong>{escape(title)}</strong></p>{sentence}{listed}{below}</div>'
    )


def code_lines(lines: list[str]) -> str:
    """Lines to copy, as HTML; the box can be scrolled by keys."""
    text = escape("\n".join(lines))
    return f'<pre tabindex="0" style="margin:.5em 0 0;overflow-x:auto">{text}</pre>'
