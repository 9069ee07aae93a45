"""Values that a notebook shows as cards, and where it asks for one.

How a card looks is not known on this floor. Each value says in one line of text what it is (its `repr`); the floor that
draws answers `card_html` for all of them.
"""

from functools import singledispatch


@singledispatch
def card_html(value: object) -> str | None:
    """The card of a value as HTML; `None` where nobody draws one, and the value is shown by its `repr`."""
    return None


class Shown:
    """A value with a card."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return card_html(self)
