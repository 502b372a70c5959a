"""Handlers that a configuration made elsewhere, by their names, attached in an order."""

from collections.abc import Sequence
from typing import Any, Protocol

from ignite.engine import Engine


class Attachable(Protocol):
    """What listens to an engine."""

    def attach(self, engine: Any) -> None: ...


class InOrder:
    """Attaches handlers one after the other.

    Args:
        handlers: from the first to the last that hears an event.
    """

    def __init__(self, handlers: Sequence[Attachable]) -> None:
        self.handlers = tuple(handlers)

    def attach(self, engine: Engine) -> None:
        """Attach them all."""
        for handler in self.handlers:
            handler.attach(engine)
