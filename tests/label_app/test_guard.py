"""Who may ask, for what, how much may be sent, and where the server listens."""

import asyncio
import multiprocessing
import sys
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.guard import Guard, given_host, is_local, listen_on_loopback, secure


async def echo(scope, receive, send):
    """Reads the whole body and says its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(path="/info/", *, method="GET", headers=(), client="127.0.0.1", body=(b"",), application=echo, **options):
    """(status, body) of one request through a guard."""
    parts = list(body)
    sent = []

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    given = dict(headers) if dict(headers).get("host") else {"host": "127.0.0.1:8000", **dict(headers)}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": (client, 1),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(Guard(application, **options)(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def test_this_machine_is_answered():
    assert ask() == (200, b"0")
    assert ask(client="::1", headers={"host": "localhost"}) == (200, b"0")


def test_another_machine_is_answered_only_when_told():
    status, body = ask(client="10.0.0.7")
    assert status == 403
    assert b"--host" in body
    assert ask(client="10.0.0.7", headers={"host": "server:8000"}, local_only=False) == (200, b"0")


def test_a_name_that_was_rebound_to_loopback_is_refused():
    assert ask(headers={"host": "evil.example"})[0] == 403


def test_pages_of_other_sites_may_not_ask():
    assert ask(headers={"origin": "https://evil.example"})[0] == 403
    assert ask(headers={"origin": "null"})[0] == 403
    assert ask(headers={"origin": "http://localhost:3000"})[0] == 200
    assert ask(headers={"origin": "https://viewer.example"}, origins=["https://viewer.example"])[0] == 200


@pytest.mark.parametrize(
    "path", ["/proxy/dicom/x", "/session/", "/model/cvm", "/reload", "/ohif/", "/logs/gpu", "//info"]
)
def test_what_the_app_does_not_need_is_not_served(path):
    assert ask(path)[0] == 404


def test_a_body_that_says_it_is_too_large_is_not_read():
    assert ask("/train/cvm", headers={"content-length": str(2**20 + 1)}, max_body_mib=1)[0] == 413
    assert ask("/datastore/image", headers={"content-length": str(2**20 + 1)}, max_body_mib=1)[0] == 200


def test_a_body_that_grows_too_large_is_stopped():
    half = b"x" * 2**19
    assert ask("/datastore/label", body=[half, half], max_body_mib=1) == (200, b"1048576")
    status, body = ask("/datastore/label", body=[half, half, b"x"], max_body_mib=1)
    assert status == 413
    assert b"1 MiB" in body


def test_whatever_the_application_makes_of_a_stopped_body_413_is_said():
    async def stubborn(scope, receive, send):
        try:
            await echo(scope, receive, send)
        except ValueError:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"parse error"})

    half = b"x" * 2**19
    assert ask("/datastore/label", body=[half, half, b"x"], max_body_mib=1, application=stubborn)[0] == 413


@pytest.mark.parametrize("local_only", [True, False])
def test_headers_that_cannot_be_read_are_refused(local_only):
    for host in ("[", "[::1", "[x]"):
        status, body = ask(headers={"host": host}, local_only=local_only)
        assert (status, b"Host" in body) == (400, True)
    assert ask(headers={"origin": "http://["}, local_only=local_only)[0] == 403
    for length in ("x", "-1", "1_0", "\xb2"):
        assert ask(headers={"content-length": length}, local_only=local_only)[0] == 400
    assert ask(headers={"content-length": "9" * 5000}, local_only=local_only)[0] == 413


async def its_type(scope, receive, send):
    """Says the Content-Type that it sees."""
    del receive
    found = [value for name, value in scope["headers"] if name == b"content-type"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b", ".join(found)})


@pytest.mark.parametrize(
    "path", ["/infer/wsi/cvm", "/train/cvm", "/activelearning/first", "/batch/infer/cvm", "/scoring/x"]
)
def test_a_json_body_without_a_content_type_is_taken_as_json(path):
    """Java's HTTP client, which QuPath's plug-in uses, sends none."""
    assert ask(path, method="POST", application=its_type) == (200, b"application/json")
    assert ask(path, method="POST", headers={"content-type": ""}, application=its_type)[1] == b"application/json"
    assert ask(path, method="POST", headers={"content-type": "text/x"}, application=its_type)[1] == b"text/x"


@pytest.mark.parametrize("path", ["/infer/cvm", "/infer/wsi_v2/cvm", "/datastore/label"])
def test_a_form_keeps_its_own_content_type(path):
    assert ask(path, method="POST", application=its_type) == (200, b"")


def test_a_page_of_another_site_may_not_send_json_without_a_type():
    headers = {"origin": "https://evil.example"}
    assert ask("/train/cvm", method="POST", headers=headers, application=its_type)[0] == 403


def test_a_refusal_is_a_line_of_the_log(caplog):
    ask("/train/cvm", method="POST", headers={"content-length": str(2**20 + 1)}, max_body_mib=1)
    assert "refused (413) POST '/train/cvm': the body is larger than 1 MiB" in caplog.text


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
