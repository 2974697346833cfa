"""Hosts, origins, tokens, rates, headers and paths: what a request must be to come through."""

from __future__ import annotations

import contextlib
import hmac
import itertools
from pathlib import Path

import pytest

from reid.service.security import SECURITY_HEADERS, Guard

from .service_world import (
    AUTH,
    ROWS,
    SECRET_FOLDER,
    TOKEN,
    add_image,
    client_of,
    encoded,
    error_of,
    make_gallery,
    make_settings,
    picture,
    search_image,
)

CHANGES = [
    ("POST", "/api/rows"),
    ("PATCH", "/api/rows/1"),
    ("DELETE", "/api/rows/1"),
    ("POST", "/api/rows/remove"),
]
READS = [
    ("GET", "/api/gallery"),
    ("GET", "/api/rows"),
    ("GET", "/api/rows/1"),
    ("GET", "/api/rows/2/thumbnail"),
    ("GET", "/api/openapi.json"),
    ("GET", "/metrics"),
    ("POST", "/api/search/image"),
    ("POST", "/api/search/id"),
    ("POST", "/api/search/vector"),
    ("GET", "/no/such/address"),
    ("PUT", "/api/gallery"),
]
WRONG = [
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"bearer{TOKEN}",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer",
    "Bearer ",
    "",
    "Bearer \xff\xfe",
]


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A client of a service that is open to other machines: everything needs the token."""
    gallery = make_gallery(tmp_path_factory.mktemp("closed") / "gallery")
    with client_of(gallery, make_settings(read_needs_token=True)) as one:
        yield one


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_changes_need_the_token(client, method, path) -> None:
    answer = client.request(method, path)
    assert error_of(answer, 401) == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"
    for wrong in WRONG:
        answer = client.request(method, path, headers={"Authorization": wrong.encode("latin-1")})
        error_of(answer, 401)
    twice = [("Authorization", f"Bearer {TOKEN}")] * 2
    error_of(client.request(method, path, headers=twice), 401)
    assert client.get("/api/rows/1").status_code == 200


@pytest.mark.parametrize(("method", "path"), READS + CHANGES)
def test_everything_needs_it_where_others_reach_the_service(closed, method, path) -> None:
    error_of(closed.request(method, path), 401)
    for wrong in WRONG:
        headers = {"Authorization": wrong.encode("latin-1")}
        error_of(closed.request(method, path, headers=headers), 401)
    for place in ({"params": {"token": TOKEN}}, {"cookies": {"token": TOKEN}}):
        with pytest.warns(DeprecationWarning) if "cookies" in place else contextlib.nullcontext():
            error_of(closed.request(method, path, **place), 401)


def test_the_token_opens_and_the_page_is_open(closed) -> None:
    assert closed.get("/api/gallery", headers=AUTH).json()["auth"] == {"read": True, "write": True}
    assert search_image(closed, encoded(picture(1))).status_code == 401
    closed.headers.update(AUTH)
    try:
        assert search_image(closed, encoded(picture(1))).status_code == 200
        assert closed.get("/metrics").status_code == 200
    finally:
        del closed.headers["Authorization"]
    assert closed.get("/").status_code == 200
    assert closed.get("/static/app.js").status_code == 200
    assert closed.get("/healthz").json() == {"status": "ok", "message": None}


def test_without_a_token_nobody_may_change(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g"), make_settings(token=None)) as client:
        assert client.get("/api/gallery").json()["writable"] is False
        for (method, path), header in itertools.product(CHANGES, [*WRONG, f"Bearer {TOKEN}"]):
            headers = {"Authorization": header.encode("latin-1")}
            error_of(client.request(method, path, headers=headers), 401)
        assert client.get("/api/rows").json()["total"] == ROWS


def test_a_wrong_token_is_refused_even_where_none_is_needed(client) -> None:
    error_of(client.get("/api/gallery", headers={"Authorization": "Bearer wrong"}), 401)
    assert client.get("/api/gallery", headers=AUTH).status_code == 200


def test_a_body_is_not_read_without_the_token(client) -> None:
    def never():
        raise AssertionError("the body was read")
        yield b""

    answer = client.post("/api/rows", content=never(), headers={"Content-Type": "text/plain"})
    error_of(answer, 401)


def test_tokens_are_compared_as_digests_of_one_length(monkeypatch) -> None:
    """hmac takes the same time wherever two values of one length differ."""
    compared = []
    right = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or right(a, b))
    settings = make_settings()
    guard = Guard(settings)
    for given in ("", "x", TOKEN[:-1], "x" * 10_000):
        assert not guard._knows([f"Bearer {given}"])
    assert guard._knows([f"Bearer {TOKEN}"])
    assert len(compared) == 5 and {len(value) for pair in compared for value in pair} == {32}
    assert TOKEN not in repr(settings) and TOKEN not in repr(vars(guard))


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.", "127.0.0.1:99999999", "127.0.0.1:x",
     "", "127.0.0.1 evil", "user@127.0.0.1", "[::1", "localhost:8000/path", "0.0.0.0"],
)  # fmt: skip
def test_a_name_that_was_bound_to_this_address_is_refused(client, host) -> None:
    assert error_of(client.get("/api/gallery", headers={"Host": host}), 400) == "bad_host"
    error_of(client.get("/", headers={"Host": host}), 400)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_names_of_this_machine_are_allowed(client, host) -> None:
    assert client.get("/api/gallery", headers={"Host": host}).status_code == 200


def test_two_hosts_are_refused_and_more_names_can_be_allowed(client, tmp_path) -> None:
    error_of(client.get("/", headers=[("Host", "localhost"), ("Host", "localhost")]), 400)
    settings = make_settings(allowed_hosts=("reid.example.org",))
    with client_of(make_gallery(tmp_path / "g"), settings) as other:
        assert other.get("/", headers={"Host": "ReID.example.org"}).status_code == 200
        error_of(other.get("/"), 400)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://127.0.0.1", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://localhost:8000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://", 403),
        ("http://127.0.0.1:8000.evil.example", 403),
        ("http://127.0.0.1:8000@evil.example", 403),
    ],
)
def test_origins(client, origin, status) -> None:
    for method, path in (("GET", "/api/gallery"), ("POST", "/api/search/id")):
        answer = client.request(method, path, headers={"Origin": origin}, json={"id": 1})
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    # the token of somebody's page does not help it
    answer = client.delete("/api/rows/99", headers={"Origin": origin, **AUTH})
    assert answer.status_code == (404 if status == 200 else 403)


def test_an_origin_can_be_allowed(tmp_path) -> None:
    settings = make_settings(allowed_origins=("https://reid.example.org",))
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        headers = {"Origin": "https://REID.example.org"}
        assert client.get("/api/gallery", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)],
)
def test_pictures_are_not_for_other_pages(client, site, status) -> None:
    headers = {"Sec-Fetch-Site": site}
    assert client.get("/api/rows/2/thumbnail", headers=headers).status_code == status
    assert client.get("/", headers=headers).status_code == 200  # a link to the page is fine


def test_every_answer_has_the_headers(client) -> None:
    answers = [
        client.get("/"),
        client.get("/api/gallery"),
        client.get("/nowhere"),
        client.get("/", headers={"Host": "evil"}),
        client.delete("/api/rows/1"),
        client.post("/api/search/id", content=b"{"),
    ]
    for answer in answers:
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert len(answer.headers["x-request-id"]) == 16
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    assert "unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]
    assert answers[1].headers["cache-control"] == "no-store"


def test_the_rate_of_a_client_is_limited(tmp_path) -> None:
    settings = make_settings(rate=0.001, burst=3)
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        asked = [client.post("/api/search/id", json={"id": 1}) for _ in range(5)]
        assert [answer.status_code for answer in asked] == [200, 200, 200, 429, 429]
        assert error_of(asked[-1], 429) == "too_many_requests"
        assert int(asked[-1].headers["retry-after"]) >= 1
        # what a client writes about itself changes nothing
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
            answer = client.post("/api/search/id", json={"id": 1}, headers={name: "10.9.8.7"})
            assert answer.status_code == 429
        assert client.get("/").status_code == client.get("/healthz").status_code == 200


def test_guessing_tokens_is_limited_too(tmp_path) -> None:
    settings = make_settings(rate=0.001, burst=3)
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        headers = {"Authorization": "Bearer wrong"}
        found = [client.delete("/api/rows/1", headers=headers).status_code for _ in range(5)]
        assert found == [401, 401, 401, 429, 429]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/..%2fsettings.py",
        "/static/%2e%2e/settings.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/static/....//settings.py",
        "/static/..\\settings.py",
        "/static/%5c..%5csettings.py",
        "/static//etc/passwd",
        "/static/%00app.js",
        "/static/app.js%00.css",
        "/static/",
        "/static",
        "/static/.",
        "/static/__init__.py",
        "/page/app.js",
        "/%2e%2e",
        "/api/rows/../../../etc/passwd",
        "/api/rows/1%2fthumbnail%2f..%2f..",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/index.html",
        "/api",
        "/api/",
        "/docs",
        "/redoc",
        "/openapi.json",
    ],
)
def test_no_path_leads_to_a_file(client, path) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422), path
    assert "root:" not in answer.text and "import " not in answer.text


def test_the_page_is_the_packaged_one(client) -> None:
    folder = Path(__file__).parents[3] / "reid/service/page"
    for file in folder.iterdir():
        address = "/" if file.name == "index.html" else f"/static/{file.name}"
        answer = client.get(address)
        assert answer.content == file.read_bytes()
        tag = answer.headers["etag"]
        assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
        error_of(client.post(address, headers=AUTH), 405)


def test_paths_of_the_server_stay_there(client) -> None:
    for answer in (
        client.get("/api/rows"),
        client.get("/api/rows/1"),
        client.post("/api/search/id", json={"id": 1}),
        client.get("/api/gallery"),
        client.get("/metrics"),
        client.get("/healthz"),
    ):
        assert answer.status_code == 200
        assert SECRET_FOLDER not in answer.text and "/tmp" not in answer.text


def test_a_fault_is_one_sentence_and_a_number_for_the_log(tmp_path, caplog) -> None:
    with client_of(make_gallery(tmp_path / "g")) as client:
        client.app.state.parts.access.gallery.search = None  # a fault of ours
        answer = client.post("/api/search/id", json={"id": 1})
        assert error_of(answer, 500) == "internal"
        request_id = answer.headers["x-request-id"]
        assert request_id in answer.json()["error"]["message"]
        assert "NoneType" not in answer.text and request_id in caplog.text
        assert "NoneType" in caplog.text
        assert client.get("/healthz").status_code == 200


def test_the_log_has_no_token_and_no_addresses(client, caplog) -> None:
    with caplog.at_level("INFO"):
        client.get("/api/rows/3", params={"where": "secret-query"}, headers=AUTH)
        add_image(client, b"x")
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("reid.service")]
    assert len(lines) == 2 and "GET /api/rows/{id} -> 200" in lines[0]
    assert not [line for line in lines if TOKEN in line or "secret-query" in line]
