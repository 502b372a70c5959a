"""Who is admitted, and that no name leads out of the folder."""

import asyncio
import os

import pytest

from cvm_monai.annotate.access import kept_token
from cvm_monai.annotate.project import Project
from cvm_monai.interactive.hosts import is_loopback
from cvm_monai.slides.files import ImageFile
from tests.annotate.conftest import PORT, TOKEN, add, draw

COOKIE = f"cvm_annotate_{PORT}"


@pytest.fixture
def stranger(client):
    """The same client without its token."""
    client.headers.pop("authorization")
    return client


def test_without_the_token_nothing_is_answered(stranger):
    for path in ("/", "/api/project", "/api/openapi.json", "/api/events", "/anything", "/?token=wrong", "/?token=%ff"):
        answer = stranger.get(path)
        assert (answer.status_code, "token is missing or wrong" in answer.json()["detail"]) == (401, True)
    assert stranger.post("/api/training", json={}).status_code == 401


def test_a_browser_without_the_token_gets_a_page_that_says_what_to_do(stranger):
    accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = stranger.get("/?token=wrong", headers=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert "open the address that <code>cvm-monai annotate</code> printed" in answer.text
    assert "script" not in answer.headers["content-security-policy"]
    assert TOKEN not in answer.text
    assert stranger.get("/api/project", headers=accept).json()["detail"].startswith("the token is missing or wrong")
    other = stranger.get("/", headers={**accept, "host": "evil.example"})
    assert (other.status_code, "The Host of a request" in other.text) == (400, True)


def test_the_address_with_the_token_gives_a_cookie_that_is_admitted(stranger):
    answer = stranger.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert stranger.get("/api/project").status_code == 200


def test_another_cookie_is_refused(stranger):
    for value in ("wrong", "é", ""):
        answer = stranger.get("/api/project", headers={"cookie": f"{COOKIE}={value}".encode("latin-1")})
        assert answer.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[::1", "", "192.168.0.7:8123"])
def test_another_host_is_refused(client, host):
    answer = client.get("/api/project", headers={"host": host})
    assert (answer.status_code, "Host of a request" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("host", ["localhost:8123", "127.0.0.1", "[::1]:8123"])
def test_this_machine_s_names_are_admitted(client, host):
    assert client.get("/api/project", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "https://localhost"])
def test_pages_of_other_origins_are_refused(client, origin, folder):
    answer = client.post(f"/api/images/{client.id()}/edits", json={}, headers={"origin": origin})
    assert (answer.status_code, "other sites" in answer.json()["detail"]) == (403, True)


def test_the_page_s_own_origin_is_admitted(client):
    own = {"origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin"}
    body = {"revision": 0, "edits": [add(1.5, 1.5)]}
    assert client.post(f"/api/images/{client.id()}/edits", json=body, headers=own).status_code == 200
    other = client.post(f"/api/images/{client.id()}/edits", json=body, headers={"sec-fetch-site": "cross-site"})
    assert other.status_code == 403


def test_a_large_body_is_refused_with_and_without_its_length(client, folder):
    address = f"/api/images/{client.id()}/edits"
    large = b" " * (5 * 2**20)
    for body in (large, iter([large[: 2**20]] * 5)):
        answer = client.post(address, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["detail"]) == (413, "the body is larger than 4 MiB")
    refused = client.post(address, content=b"{}", headers={"content-length": "many"})
    assert refused.status_code == 400
    assert not (folder / "points").exists()


def test_every_answer_is_hardened(client):
    for path in ("/api/project", "/api/images/none/annotations", f"/api/images/{client.id()}/thumbnail.jpg"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc",
        "%252e%252e",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "a%00",
        "%00",
        "a.png",
        "images%2fa.png",
    ],
)
def test_no_name_leads_out_of_the_folder(client, folder, name):
    before = sorted(folder.parent.rglob("*"))
    for path in (
        f"/api/images/{name}/annotations",
        f"/api/images/{name}/thumbnail.jpg",
        f"/api/training/figures/{name}",
    ):
        assert client.get(path).status_code in (400, 404)
    body = {"revision": 0, "edits": [add(1, 1)]}
    assert client.post(f"/api/images/{name}/edits", json=body).status_code in (400, 404, 405)
    assert client.get("/api/export", params={"images": name}).status_code == 404
    assert [path for path in sorted(folder.parent.rglob("*")) if path not in before] == []


def test_the_page_serves_its_own_files_alone(served, tmp_path):
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<title>here</title>")
    (page / "assets" / "main.js").write_text("1")
    (page / "assets" / "out").symlink_to("/etc")
    (tmp_path / "secret").write_text("secret")
    client = served(page=page)
    assert "<title>here" in client.get("/").text
    assert client.get("/assets/main.js").status_code == 200
    for path in ("/../secret", "/%2e%2e/secret", "/assets/%2e%2e/%2e%2e/secret", "/assets/out/hostname", "/x%00"):
        assert client.get(path).status_code in (400, 404)


def test_links_that_lead_out_of_the_folder_are_passed_over(served, folder, tmp_path):
    draw(tmp_path / "elsewhere" / "secret.png", 5)
    (folder / "images" / "link.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (folder / "images" / "own.png").symlink_to(folder / "images" / "a.png")
    project = Project(folder)
    assert sorted(image.name for image in project.images.values()) == ["a", "b", "c", "own"]
    assert project.passed_over == ("1 image(s) are links that lead out of the folder, such as link.png",)


def test_images_are_not_compared_with_each_other_so_that_ten_thousand_open_as_fast_as_they_are_listed(
    folder, monkeypatch
):
    for number in range(20):
        os.link(folder / "images" / "a.png", folder / "images" / f"more_{number}.png")
    compared = []
    monkeypatch.setattr(ImageFile, "__eq__", lambda own, other: compared.append(own) or own is other)
    assert len(Project(folder).images) > 20
    assert compared == []


def test_annotations_behind_a_link_out_of_the_folder_are_not_written(served, folder, tmp_path):
    (folder / "points").mkdir()
    (tmp_path / "other.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (folder / "points" / "a.geojson").symlink_to(tmp_path / "other.geojson")
    client = served()
    assert client.image()["problem"] == "a.geojson is a link that leads out of the folder"
    assert client.edit([add(1, 1)], revision=0).status_code == 400
    assert (folder / "points" / "a.geojson").is_symlink()


def test_a_folder_of_annotations_behind_a_link_is_not_written(served, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "points").symlink_to(tmp_path / "elsewhere")
    client = served()
    assert client.edit([add(1, 1)], revision=0).status_code == 400
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["..", "../..", "../../../../etc/passwd", "/etc/passwd", "a\x00", "\x00"])
@pytest.mark.parametrize("place", ["/api/images/{}/annotations", "/api/training/figures/{}", "/{}", "/assets/{}"])
def test_a_path_that_no_client_has_tidied_leads_nowhere(served, tmp_path, place, name):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("here")
    client = served(page=tmp_path / "page")
    assert raw_status(client.app_, place.format(name)) in (404, 307)  # 307: to the page itself


def raw_status(app, path):
    """The status of a request whose path is sent as it is."""
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"http_version": "1.1", "scheme": "http", "root_path": "", "client": ("127.0.0.1", 1)}
    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {TOKEN}".encode())]
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope | {"headers": headers}, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("host, own", [("localhost", True), ("127.3.2.1", True), ("::1", True), ("10.0.0.1", False)])
def test_which_hosts_are_this_machine(host, own):
    assert is_loopback(host) == own


def test_a_folders_token_outlives_its_server_and_only_the_user_can_read_it(tmp_path):
    token = kept_token(tmp_path)
    assert kept_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert kept_token(tmp_path / "other") != token


def test_a_token_that_is_cut_short_is_made_anew(tmp_path):
    (tmp_path / "token").write_text("")
    assert len(kept_token(tmp_path)) == 32


def test_the_page_may_run_no_script_and_no_style_that_is_written_into_it(client):
    policy = client.get("/api/project").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
