"""Warnings that are not lost with an error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def noted(warnings: Sequence[str]) -> Iterator[None]:
    """Add warnings to a ValueError that passes, as its notes: what was passed over may explain what is missing.

    Args:
        warnings: those that are there when the error comes.
    """
    try:
        yield
    except ValueError as error:
        for sentence in warnings:
            if sentence not in getattr(error, "__notes__", ()) and sentence not in str(error):
                error.add_note(sentence)
        raise
