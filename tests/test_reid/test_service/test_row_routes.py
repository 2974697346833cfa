"""Rows are listed, shown, added, changed and removed as the gallery does it; durable at once."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from reid.gallery import Gallery

from .service_world import (
    AUTH,
    ROWS,
    add_image,
    client_of,
    embed,
    encoded,
    error_of,
    make_gallery,
    make_records,
    make_settings,
    picture,
    search_image,
)


def test_a_listing_shows_every_row_once(client) -> None:
    offset, seen = 0, []
    while offset is not None:
        page = client.get("/api/rows", params={"offset": offset, "limit": 7}).json()
        assert page["total"] == ROWS
        seen += page["rows"]
        offset = page["next_offset"]
    assert [row["id"] for row in seen] == list(range(ROWS))
    for row, record in zip(seen, make_records(), strict=True):
        assert row["record"] == {**record, "image": f"{row['id']:04d}.png"}


@pytest.mark.parametrize(
    ("where", "right"),
    [
        ({"camera": 2}, lambda r: r["camera"] == 2),
        ({"camera": [0, 1], "gate": "north"}, lambda r: r["camera"] < 2 and r["gate"] == "north"),
        ({"time": {"$gte": 500, "$lt": 900}}, lambda r: 500 <= r["time"] < 900),
        ({"pid": {"$nin": [1, 2]}}, lambda r: r["pid"] not in (1, 2)),
        ({"pid": 99}, lambda r: False),
        ({}, lambda r: True),
    ],
)
def test_a_filtered_listing(client, where, right) -> None:
    page = client.get("/api/rows", params={"where": json.dumps(where), "limit": 3}).json()
    ids = [row for row, record in enumerate(make_records()) if right(record)]
    assert page["total"] == len(ids) and [row["id"] for row in page["rows"]] == ids[:3]


@pytest.mark.parametrize(
    "params",
    [
        {"offset": -1},
        {"limit": 0},
        {"limit": 501},
        {"limit": 10**30},
        {"limit": "x"},
        {"where": "{"},
        {"where": "[]"},
        {"where": '{"colour": 1}'},
        {"where": '{"image": {"$lt": "a"}}'},
        {"where": '{"pid": NaN}'},
        {"where": "[" * 4000},
        {"where": '{"a": "\\ud800"}'},
    ],
)
def test_listings_that_are_refused(client, params) -> None:
    error_of(client.get("/api/rows", params=params), 422)


def test_a_row_and_its_picture(client) -> None:
    row = client.get("/api/rows/4").json()
    assert row["id"] == 4 and row["record"]["image"] == "0004.png"
    answer = client.get(row["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (32, 64)
    assert error_of(client.get("/api/rows/5/thumbnail"), 404) == "no_picture"
    for address in ("/api/rows/99", "/api/rows/99/thumbnail"):
        assert error_of(client.get(address), 404) == "unknown_id"
    for wrong in ("-1", "x", "1.5", str(2**63), "9" * 5000):
        error_of(client.get(f"/api/rows/{wrong}"), 422)


def test_an_added_image_is_found_and_kept(fresh, tmp_path) -> None:
    data = encoded(picture(50, 600, 300), "JPEG")
    answer = add_image(fresh, data, {"pid": 9, "camera": "east", "shoes": ["red"], "note": None})
    assert answer.status_code == 201, answer.text
    new = answer.json()["id"]
    assert new == ROWS
    hit = search_image(fresh, data, k=1).json()["hits"][0]
    assert hit["id"] == new and hit["score"] == pytest.approx(1.0, abs=1e-6)
    sha = search_image(fresh, data).json()["query"]["sha256"]
    assert hit["record"] == {"image": f"sha256:{sha}", "pid": 9, "camera": "east", "shoes": ["red"]}
    small = Image.open(io.BytesIO(fresh.get(hit["thumbnail"]).content))
    assert small.format == "JPEG" and small.size == (128, 256)
    about = fresh.get("/api/gallery").json()
    assert about["rows"] == ROWS + 1 and {"value": "east", "rows": 1} in about["cameras"]
    with Gallery.open(tmp_path / "gallery") as other:  # in the gallery, and not in the service only
        assert other.records[new]["pid"] == 9


def test_the_same_file_is_not_added_twice(fresh) -> None:
    data = encoded(picture(51))
    first = add_image(fresh, data).json()["id"]
    again = add_image(fresh, data)
    assert error_of(again, 409) == "duplicate"
    assert again.json()["error"]["id"] == first
    assert add_image(fresh, data, allow_duplicate="true").json()["id"] == first + 1
    fresh.post("/api/rows/remove", json={"ids": [first, first + 1]}, headers=AUTH)
    assert add_image(fresh, data).status_code == 201


def test_of_the_same_file_sent_many_times_at_once_one_is_added(fresh) -> None:
    data = encoded(picture(52))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: add_image(fresh, data).status_code, range(8)))
    assert sorted(found) == [201] + [409] * 7


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("{", "JSON object"),
        ("[]", "JSON object"),
        ("null", "JSON object"),
        ('{"image": "/etc/passwd"}', "set by the service"),
        ('{"pid": 1.5}', "pid"),
        ('{"pid": true}', "pid"),
        ('{"camera": []}', "camera"),
        ('{"time": {}}', "time"),
        ('{"x": NaN}', "finite"),
        ('{"x": 1e999}', "finite"),
        ('{"x": 9999999999999999999999}', "64 bits"),
        ('{"x": "\\ud800"}', "cannot be stored"),
        ('{"x": [[[[[[[1]]]]]]]}', "levels"),
        ('{"": 1}', "names of 1 to 64"),
        (json.dumps({"x": ["y" * 4000] * 5}), "16,384 bytes"),
        (json.dumps({f"f{n}": n for n in range(65)}), "64 fields"),
        ("[" * 50_000, "JSON object"),
    ],
)
def test_records_that_are_refused(client, record, words) -> None:
    form = {"record": record}
    files = {"image": ("new", encoded(picture(60)))}
    answer = client.post("/api/rows", files=files, data=form, headers=AUTH)
    error_of(answer, 422)
    assert words in answer.json()["error"]["message"]
    assert client.get("/api/gallery").json()["rows"] == ROWS


def test_fields_are_changed(fresh) -> None:
    answer = fresh.patch("/api/rows/3", json={"pid": 70, "gate": None, "seen": True}, headers=AUTH)
    record = {**make_records()[3], "image": "0003.png", "pid": 70, "seen": True}
    del record["gate"]
    assert answer.json()["record"] == record == fresh.get("/api/rows/3").json()["record"]
    for body, status in (({"image": "x"}, 422), ({"pid": 1.5}, 422), ([1], 422), ("x", 422)):
        error_of(fresh.patch("/api/rows/3", json=body, headers=AUTH), status)
    assert error_of(fresh.patch("/api/rows/99", json={"pid": 1}, headers=AUTH), 404) == "unknown_id"
    assert fresh.get("/api/rows/3").json()["record"] == record


def test_a_record_cannot_grow_beyond_its_limit(fresh) -> None:
    for turn in range(4):
        fresh.patch("/api/rows/3", json={f"x{turn}": "y" * 4000}, headers=AUTH)
    before = fresh.get("/api/rows/3").json()
    error_of(fresh.patch("/api/rows/3", json={"x4": "y" * 4000}, headers=AUTH), 422)
    assert fresh.get("/api/rows/3").json() == before


def test_rows_are_removed_all_or_none(fresh) -> None:
    error_of(fresh.post("/api/rows/remove", json={"ids": [1, 99]}, headers=AUTH), 404)
    assert fresh.get("/api/rows/1").status_code == 200
    assert fresh.delete("/api/rows/1", headers=AUTH).json() == {"rows": 1}
    answer = fresh.post("/api/rows/remove", json={"ids": [2, 3, 3]}, headers=AUTH)
    assert answer.json() == {"rows": 2}
    for row in (1, 2, 3):
        error_of(fresh.get(f"/api/rows/{row}"), 404)
        error_of(fresh.delete(f"/api/rows/{row}", headers=AUTH), 404)
        hits = search_image(fresh, encoded(picture(row)), k=ROWS).json()["hits"]
        assert row not in [hit["id"] for hit in hits] and len(hits) == ROWS - 3


@pytest.mark.parametrize(
    "body", [{}, {"ids": []}, {"ids": [True]}, {"ids": ["1"]}, {"ids": [-1]}, {"ids": [2**64]},
             {"ids": list(range(501))}, {"ids": 1}, {"ids": [1], "more": 2}]
)  # fmt: skip
def test_removals_that_are_refused(client, body) -> None:
    error_of(client.post("/api/rows/remove", json=body, headers=AUTH), 422)


def test_a_gallery_that_is_locked_says_so(tmp_path) -> None:
    make_gallery(tmp_path / "g").close()
    gallery = Gallery.open(tmp_path / "g", lock_timeout=0.05)
    with client_of(gallery) as client, Gallery.open(tmp_path / "g") as other:
        with other.store._writing():
            answer = client.delete("/api/rows/1", headers=AUTH)
            assert error_of(answer, 503) == "locked" and "retry-after" in answer.headers
            assert client.post("/api/search/id", json={"id": 1}).status_code == 200
        assert client.delete("/api/rows/1", headers=AUTH).status_code == 200


def test_read_only(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g"), make_settings(writable=False)) as client:
        assert client.get("/api/gallery").json()["writable"] is False
        answers = [
            add_image(client, encoded(picture(0))),
            client.patch("/api/rows/1", json={"pid": 1}, headers=AUTH),
            client.delete("/api/rows/1", headers=AUTH),
            client.post("/api/rows/remove", json={"ids": [1]}, headers=AUTH),
        ]
        assert [error_of(answer, 403) for answer in answers] == ["read_only"] * 4
        assert client.get("/api/rows").json()["total"] == ROWS


def test_features_added_are_those_of_the_embedding(fresh, tmp_path) -> None:
    new = add_image(fresh, encoded(picture(53))).json()["id"]
    with Gallery.open(tmp_path / "gallery") as other:
        assert other.vectors([new]) == pytest.approx(embed([picture(53)]), abs=1e-6)
