"""Server-sent events: order, heartbeat, slow pages, and the end."""

import asyncio
import json

from cvm_monai.annotate.events import WAITING, Events


async def read(stream, count):
    return [await anext(stream) for _ in range(count)]


def test_every_page_gets_every_event_in_order():
    async def run():
        events = Events()
        streams = [events.stream() for _ in range(2)]
        for stream in streams:
            assert await anext(stream) == ": connected\n\n"
        events.publish(type="image", image="x")
        await asyncio.to_thread(events.publish, type="training")
        return [await read(stream, 2) for stream in streams]

    first, second = asyncio.run(run())
    assert first == second == ['data: {"type": "image", "image": "x"}\n\n', 'data: {"type": "training"}\n\n']


def test_a_comment_is_sent_where_nothing_happens():
    async def run():
        stream = Events().stream(heartbeat=0.01)
        return await read(stream, 3)

    assert asyncio.run(run()) == [": connected\n\n", ": still here\n\n", ": still here\n\n"]


def test_a_slow_page_is_told_once_that_all_may_have_changed():
    async def run():
        events = Events()
        stream = events.stream(heartbeat=0.01)
        await anext(stream)
        for number in range(WAITING + 1):
            events.publish(type="image", image=str(number))
        await asyncio.sleep(0)
        return await read(stream, 2)

    (first, second) = asyncio.run(run())
    assert json.loads(first.removeprefix("data: ")) == {"type": "project"}
    assert second == ": still here\n\n"


def test_a_closed_server_ends_all_streams():
    async def run():
        events = Events()
        stream = events.stream()
        await anext(stream)
        events.close()
        return [part async for part in stream], events._queues

    assert asyncio.run(run()) == ([], {})
