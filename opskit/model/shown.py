"""Values that a notebook shows as cards, and where it asks for one.

How a card looks is not known on this floor. Each value says in one line of text what it is (its `repr`); the floor that
draws answers `card_html` for all of them. Loads no module: every command loads this.
"""

TYPE_CHECKING = False  # typing's would have to be loaded
if TYPE_CHECKING:
    from collections.abc import Callable


class CardHtml:
    """Asks for cards; who draws them gives itself as `drawn_by`."""

    __slots__ = ("drawn_by",)

    def __init__(self) -> None:
        self.drawn_by: Callable[[object], str | None] | None = None

    def __call__(self, value: object) -> str | None:
        """The card of a value as HTML; `None` where nobody draws one, and the value is shown by its `repr`."""
        return self.drawn_by(value) if self.drawn_by else None


card_html = CardHtml()


class Shown:
    """A value with a card."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return card_html(self)
