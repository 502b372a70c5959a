"""Tell all open pages what has changed, by server-sent events."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

HEARTBEAT = 10.0
"""Seconds after which a comment is sent, so that both sides notice a lost connection."""

WAITING = 256
"""Number of events that wait for a slow page; then it is told once that everything may have changed."""


class Events:
    """Passes events of any thread to all listening pages."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[asyncio.Queue[dict[str, Any] | None], asyncio.AbstractEventLoop] = {}
        self._closed = False

    def publish(self, **event: Any) -> None:
        """Send an event, with its `type` and further facts, to every page."""
        self._send(event)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._closed = True
        self._send(None)

    def _send(self, event: dict[str, Any] | None) -> None:
        with self._lock:
            for queue, loop in self._queues.items():
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_put, queue, event)

    async def stream(self, *, heartbeat: float = HEARTBEAT) -> AsyncIterator[str]:
        """Yield the events from now on as text of the stream, and a comment where nothing happens for a while."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(WAITING)
        with self._lock:
            self._queues[queue] = asyncio.get_running_loop()
        try:
            yield ": connected\n\n"
            while not self._closed:
                try:
                    event = await asyncio.wait_for(queue.get(), heartbeat)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                yield f"data: {json.dumps(event)}\n\n"
        finally:
            with self._lock:
                self._queues.pop(queue, None)


def _put(queue: asyncio.Queue[dict[str, Any] | None], event: dict[str, Any] | None) -> None:
    """Add an event; a page that is too slow gets one event for all that it missed."""
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        event = None if event is None else {"type": "project"}
    queue.put_nowait(event)
