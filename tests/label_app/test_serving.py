"""Where the server listens."""

import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.serving import given_host, is_local, listen_on_loopback, secure


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


@pytest.fixture
def server_config(monkeypatch):
    """uvicorn's configuration, as it was before the test once that is over."""
    config = pytest.importorskip("uvicorn.config", reason="uvicorn comes with MONAI Label").Config
    monkeypatch.setattr(config, "host", "", raising=False)
    return config


@pytest.mark.parametrize("host, expected", [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("10.1.2.3", "10.1.2.3")])
def test_every_interface_becomes_loopback_in_a_server_that_runs_already(server_config, host, expected):
    config = server_config(app=None, host=host, port=0)
    assert config.host == host
    assert listen_on_loopback() is True
    assert config.host == expected
    with config.bind_socket() if expected == "127.0.0.1" else SimpleSocket(expected) as socket:
        assert socket.getsockname()[0] == expected
    config.host = "::"
    assert config.host == "127.0.0.1"


class SimpleSocket(SimpleNamespace):
    """A socket that is not opened, for an address that this machine does not have."""

    def __init__(self, host):
        super().__init__(getsockname=lambda: (host, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_without_uvicorn_nothing_can_be_bound(monkeypatch):
    monkeypatch.delitem(sys.modules, "uvicorn.config", raising=False)
    assert listen_on_loopback() is False


def test_a_worker_shares_the_socket_that_its_parent_opened(monkeypatch, server_config):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert listen_on_loopback() is False
    assert server_config(app=None, host="0.0.0.0").host == "0.0.0.0"
