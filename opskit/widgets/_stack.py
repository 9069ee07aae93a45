"""The cards of a panel, one above the other, the newest first."""

from collections.abc import Callable
from uuid import uuid4

import ipywidgets

from opskit.errors import OpskitError
from opskit.model.operation import OperationKind
from opskit.widgets._cards import Card, ErrorCard, OperationCard

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
        self._clicked = clicked

    def add(self, key: str, card: Card) -> None:
        """Put a card on top; of those that have ended, few are kept."""

        def press() -> None:
            if card.press():
                self._remove(key)

        card.button.on_click(self._clicked(press))
        self.cards = {key: card, **self.cards}
        for old in [key for key, card in self.cards.items() if not card.is_running][_ENDED:]:
            self._remove(old)
        self._draw()

    def tell(self, error: OpskitError) -> None:
        """Put a card on top that shows an error."""
        self.add(uuid4().hex, ErrorCard("That did not work", error))

    def look(self) -> bool:
        """Bring all cards up to date; whether an operation has ended since the last look. Errors as a card's."""
        return bool([card for card in list(self.cards.values()) if card.look()])

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
