"""Where the server listens."""

import asyncio
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.serving import bind_to_loopback, given_host, is_local, secure


@pytest.mark.parametrize(
    "words, host",
    [
        (["--host", "0.0.0.0"], "0.0.0.0"),
        (["--host=10.1.2.3"], "10.1.2.3"),
        (["--hos", "x"], "x"),
        (["-i", "x"], "x"),
        (["-i0.0.0.0"], "0.0.0.0"),
        (["--host", "127.0.0.1", "-i", "0.0.0.0"], "0.0.0.0"),
        (["--studies", "S", "--port", "8000"], None),
    ],
)
def test_a_host_is_seen_as_the_servers_parser_sees_it(words, host):
    assert given_host(["start_server", "--app", "A", *words]) == host


@pytest.mark.parametrize(
    "words, local",
    [
        ([], True),
        (["--host", "127.0.0.1"], True),
        (["--host", "localhost"], True),
        (["-i", "::1"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "10.1.2.3"], False),
        (["--host", "::"], False),
    ],
)
def test_a_server_is_guarded_unless_its_host_is_open(words, local):
    assert is_local(["start_server", "--app", "A", *words]) is local
    added = []
    application = SimpleNamespace(
        user_middleware=added, add_exception_handler=lambda *_: None, build_middleware_stack=lambda: None
    )
    pytest.importorskip("fastapi", reason="FastAPI comes with MONAI Label")
    secure(application, conf={}, arguments=["start_server", *words], origins=[])
    assert [entry.kwargs["local_only"] for entry in added] == [local]


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
