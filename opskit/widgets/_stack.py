"""The cards of a panel, one above the other, the newest first."""

from collections.abc import Callable
from uuid import uuid4

import ipywidgets

from opskit.errors import OpskitError, unexpected
from opskit.model.operation import OperationKind
from opskit.widgets._cards import Card, ErrorCard, OperationCard
from opskit.widgets._messages import traceback_text

_ENDED = 5


class CardStack:
    """What runs, and the last things that ended or went wrong. Not safe to use from two threads at once.

    Parameters
    ----------
    clicked
        Makes the callback of a button.
    """

    def __init__(self, clicked: Callable[[Callable[[], None]], Callable[[object], None]]) -> None:
        self.widget = ipywidgets.VBox()
        self.cards: dict[str, Card] = {}
        self._known: set[str] = set()
        self._clicked = clicked

    def add(self, key: str, card: Card) -> None:
        """Put a card on top; of those that have ended, few are kept."""

        def press() -> None:
            if card.press():
                self._remove(key)

        card.button.on_click(self._clicked(press))
        self._known.add(key)
        self.cards = {key: card, **self.cards}
        for old in [key for key, card in self.cards.items() if not card.is_running][_ENDED:]:
            self._remove(old)
        self._draw()

    def tell(self, error: Exception) -> None:
        """Put a card on top that shows an error, with its way through opskit where it is a fault."""
        trace = "" if isinstance(error, OpskitError) else traceback_text(error)
        self.add(uuid4().hex, ErrorCard("That did not work", told(error), trace))

    def look(self) -> bool:
        """Bring all cards up to date; whether an operation has ended since the last look. Errors as a card's."""
        return bool([card for card in list(self.cards.values()) if card.look()])

    def has(self, key: str) -> bool:
        """Whether there is a card for it, or was one that has been taken away."""
        return key in self._known

    @property
    def is_busy(self) -> bool:
        """Whether an operation is running."""
        return any(card.is_running for card in self.cards.values())

    def runs(self, kind: OperationKind, backup: str | None = None) -> bool:
        """Whether an operation of this kind is running, and on this backup if one is given."""
        return any(
            card.is_running and card.kind is kind and backup in (None, card.backup)
            for card in self.cards.values()
            if isinstance(card, OperationCard)
        )

    def _remove(self, key: str) -> None:
        card = self.cards.pop(key, None)
        if card is not None:
            self._draw()
            card.close()

    def _draw(self) -> None:
        self.widget.children = [card.widget for card in self.cards.values()]


def told(error: Exception) -> OpskitError:
    """Any exception as an error that may be shown."""
    return error if isinstance(error, OpskitError) else unexpected(error)
