"""Where the server listens."""

import asyncio
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.serving import bind_to_loopback, host_was_given


@pytest.mark.parametrize(
    "words", [["--host", "0.0.0.0"], ["--host=0.0.0.0"], ["--hos", "x"], ["-i", "x"], ["-i0.0.0.0"]]
)
def test_a_host_is_seen_as_the_servers_parser_sees_it(words):
    assert host_was_given(["start_server", "--app", "A", *words])


def test_without_a_host_none_was_given():
    assert not host_was_given(["start_server", "--app", "A", "--studies", "S", "--port", "8000"])


class Lifespan:
    """Runs a start-up as uvicorn does: a task of the object that holds the configuration."""

    def __init__(self, host):
        self.config = SimpleNamespace(host=host)
        self.bound = None

    async def main(self):
        await self.startup()

    async def startup(self):
        self.bound = bind_to_loopback()


@pytest.mark.parametrize("host, expected", [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")])
def test_every_interface_becomes_loopback(host, expected):
    lifespan = Lifespan(host)
    asyncio.run(lifespan.main())
    assert (lifespan.config.host, lifespan.bound) == (expected, True)


def test_outside_a_server_nothing_can_be_bound():
    assert bind_to_loopback() is False
