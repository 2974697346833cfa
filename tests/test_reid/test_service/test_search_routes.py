"""Searches over HTTP answer what the gallery answers; bad questions are refused in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from reid.gallery import Gallery

from .service_world import (
    DIM,
    MODEL,
    ROWS,
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


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """The same gallery, asked without the service."""
    with make_gallery(tmp_path_factory.mktemp("twin") / "gallery") as gallery:
        yield gallery


def compare(answer, hits, offset=0) -> None:
    """Hits of an answer are those of a gallery."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["hits"]
    assert [hit["id"] for hit in found] == [hit.id for hit in hits]
    for rank, (hit, right) in enumerate(zip(found, hits, strict=True), offset + 1):
        assert hit["rank"] == rank
        assert hit["score"] == pytest.approx(right.score, abs=1e-6)
        assert hit["distance"] == pytest.approx(right.distance, abs=1e-6)
        assert (hit["reranked"] is None) == (right.reranked is None)
        assert hit["record"] == {**right.record, "image": f"{right.id:04d}.png"}
        assert [hit[name] for name in ("pid", "camera", "time")] == [
            right.record[name] for name in ("pid", "camera", "time")
        ]
        right_thumbnail = f"/api/rows/{right.id}/thumbnail" if right.id % 2 == 0 else None
        assert hit["thumbnail"] == right_thumbnail


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({"k": 5}, {}),
        ({"k": 5, "where": {"camera": [0, 2]}}, {"where": {"camera": [0, 2]}}),
        ({"k": 4, "where": {"time": {"$gte": 500, "$lt": 1500}}},
         {"where": {"time": {"$gte": 500, "$lt": 1500}}}),
        ({"k": 9, "exclude_camera": 1}, {"exclude_cameras": [1]}),
        ({"k": 9, "min_score": 0.1}, {"min_score": 0.1}),
        ({"k": 3, "group_by": "pid"}, {"group_by": "pid"}),
        ({"k": 6, "rerank": 20}, {"rerank": 20}),
        ({"k": 6, "expand": 2}, {"expand": 2}),
        ({"k": 6, "exact": True}, {"exact": True}),
    ],
)  # fmt: skip
def test_options_are_the_gallerys(client, twin, asked, same) -> None:
    vector = embed([picture(99)])
    answer = client.post("/api/search/vector", json={"vector": vector[0].tolist(), **asked})
    right = twin.search(vector, asked["k"], **same)
    compare(answer, right[0])
    body = answer.json()
    assert body["total_allowed"] == right.allowed[0] and body["exact"] is True
    assert body["rows"] == ROWS and body["notes"] == right.notes and body["seconds"] > 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_finds_its_row(client, twin, kind) -> None:
    data = encoded(picture(7), kind)
    answer = search_image(client, data, k=3)
    assert answer.json()["hits"][0]["id"] == 7
    assert answer.json()["hits"][0]["score"] > (0.9999 if kind == "PNG" else 0.95)
    query = answer.json()["query"]
    assert (query["width"], query["height"], query["crop"]) == (32, 64, None)
    assert len(query["sha256"]) == 64


def test_a_crop_is_what_is_searched_for(client) -> None:
    both = np.concatenate([picture(3), picture(4)], axis=1)
    for left, row in ((0, 3), (32, 4)):
        answer = search_image(client, encoded(both), crop=f"{left},0,32,64", k=1).json()
        assert answer["hits"][0]["id"] == row and answer["hits"][0]["score"] > 0.9999
        assert answer["query"]["crop"] == [left, 0, 32, 64]
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    turned = encoded(both[::-1, ::-1].copy(), exif=exif)
    assert search_image(client, turned, crop="0,0,32,64", k=1).json()["hits"][0]["id"] == 3


def test_a_row_is_not_among_its_own_hits(client, twin) -> None:
    answer = client.post("/api/search/id", json={"id": 5, "k": ROWS})
    compare(answer, twin.search(twin.vectors([5]), ROWS, exclude_ids=[[5]])[0])
    assert answer.json()["total_allowed"] == ROWS - 1 and answer.json()["query"]["id"] == 5


def test_pages_of_hits_are_the_hits(client, twin) -> None:
    vector = embed([picture(5)])
    whole = twin.search(vector, ROWS)[0]
    offset, seen = 0, 0
    while offset is not None:
        answer = client.post(
            "/api/search/vector", json={"vector": vector[0].tolist(), "k": 7, "offset": offset}
        )
        compare(answer, whole[offset : offset + 7], offset)
        seen += len(answer.json()["hits"])
        offset = answer.json()["next_offset"]
    assert seen == ROWS


def test_an_empty_gallery_has_no_hits(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g", rows=0)) as client:
        answer = search_image(client, encoded(picture(0))).json()
        assert answer["hits"] == [] and answer["total_allowed"] == 0
        assert client.get("/api/gallery").json()["time"] is None
        error_of(client.post("/api/search/id", json={"id": 0}), 404)


VECTOR = [1.0] + [0.0] * (DIM - 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"k": 0}, "k: Input should be greater than or equal to 1"),
        ({"k": 201}, "at most 200"),
        ({"k": 5.5}, "k: Input should be a valid integer"),
        ({"k": True}, "k: "),
        ({"k": "5"}, "k: "),
        ({"offset": -1}, "offset: "),
        ({"k": 200, "offset": 801}, "at most 1000"),
        ({"rerank": 501}, "at most 500"),
        ({"expand": 51}, "at most 50"),
        ({"where": {"colour": "red"}}, "'colour', which no record"),
        ({"where": {"time": {"$regex": "x"}}}, "'$regex' is no operator"),
        ({"where": {"image": {"$gte": "/srv"}}}, "equality only"),
        ({"where": {"image": "/srv/secret/cameras/0020.png"}}, "only what the service has added"),
        ({"where": {"image": {"$in": ["sha256:0", "/srv"]}}}, "only what the service has added"),
        ({"group_by": "colour"}, "group_by names the field 'colour'"),
        ({"where": [1]}, "where: "),
        ({"where": "lambda r: True"}, "where: "),
        ({"where": {"a": [[[[[[[1]]]]]]]}}, "levels"),
        ({"where": {"pid": list(range(1000))}}, "1000 values"),
        ({"where": {"pid": 2**63}}, "64 bits"),
        ({"where": {"pid\ud800": 1}}, "cannot be stored"),
        ({"exclude_camera": "1"}, "knows this camera as 1"),
        ({"exclude_camera": True}, "exclude_camera"),
        ({"exclude_camera": [1]}, "exclude_camera"),
        ({"min_score": "0.5"}, "min_score: "),
        ({"group_by": ""}, "group_by: "),
        ({"exact": 1}, "exact: "),
        ({"no_such_option": 1}, "no_such_option: "),
        ({"vector": VECTOR[1:]}, f"15 numbers; the gallery's have {DIM}"),
        ({"vector": []}, "vector: "),
        ({"vector": [True] * DIM}, "vector"),
        ({"vector": ["1"] * DIM}, "vector"),
        ({"vector": [0.0] * DIM}, ""),
        ({"vector": [1e300] * DIM}, ""),
        ({"model": "another"}, f"model {MODEL}"),
    ],
)
def test_bad_questions(client, asked, words) -> None:
    answer = client.post("/api/search/vector", content=json.dumps({"vector": VECTOR, **asked}),
                         headers={"Content-Type": "application/json"})  # fmt: skip
    error_of(answer, 422)
    assert words in answer.json()["error"]["message"]
    if "vector" not in asked and "model" not in asked:  # the same in the form of an upload
        answer = search_image(client, encoded(picture(0)), **asked)
        error_of(answer, 422)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(client, number) -> None:
    vector = "[" + ", ".join([number] * DIM) + "]"
    for body in (f'{{"vector": {vector}}}', f'{{"vector": {VECTOR}, "min_score": {number}}}',
                 f'{{"vector": {VECTOR}, "where": {{"time": {number}}}}}'):  # fmt: skip
        answer = client.post(
            "/api/search/vector", content=body, headers={"Content-Type": "application/json"}
        )
        error_of(answer, 422)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b'{"id": ' * 10_000, b"[" * 100_000, b"\xff\xfe", b"9" * 9999],
)
def test_bodies_that_are_no_json(client, body) -> None:
    answer = client.post(
        "/api/search/id", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    error_of(answer, answer.status_code)


def test_ids(client) -> None:
    error_of(client.post("/api/search/id", json={"id": ROWS}), 404)
    error_of(client.post("/api/search/id", json={"id": 2**62}), 404)
    for wrong in (-1, 2**63, 2**70, "3", 1.5, None, True, [1]):
        error_of(client.post("/api/search/id", json={"id": wrong}), 422)


@pytest.mark.parametrize(
    "crop",
    ["1,2,3", "a,b,c,d", "0,0,0,5", "0,0,5,-1", "nan,0,1,1", "1e9,0,1,1", "9" * 400 + ",0,1,1"],
)
def test_crops_that_are_none(client, crop) -> None:
    assert error_of(search_image(client, encoded(picture(0)), crop=crop), 422) == "bad_crop"
    assert error_of(search_image(client, encoded(picture(0)), crop="32,0,5,5"), 422) == "bad_crop"


def test_without_a_model_images_are_not_taken(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g"), embedding=None) as client:
        assert client.get("/api/gallery").json()["images"] is False
        assert error_of(search_image(client, encoded(picture(0))), 501) == "no_model"
        assert client.post("/api/search/id", json={"id": 1}).status_code == 200


def test_an_embedding_that_does_not_fit_is_refused_at_the_start(tmp_path) -> None:
    gallery = make_gallery(tmp_path / "g")
    with (
        pytest.raises(ValueError, match=f"holds dimension {DIM}"),
        client_of(gallery, embedding=lambda images: embed(images)[:, :3]),
    ):
        pass


def test_paths_are_shown_only_where_that_is_set(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g"), make_settings(show_paths=True)) as client:
        hit = client.post("/api/search/id", json={"id": 1, "k": 1}).json()["hits"][0]
        assert hit["record"] == make_records()[hit["id"]]
        where = {"image": {"$gte": "/srv/secret/cameras/0020"}}
        found = client.post("/api/search/id", json={"id": 1, "where": where}).json()
        assert found["total_allowed"] == 4


def test_pages_of_a_reranked_search_are_one_list(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g")) as client:

        def ids(**options) -> list[int]:
            asked = {"id": 1, "rerank": 6, **options}
            hits = client.post("/api/search/id", json=asked).json()["hits"]
            return [hit["id"] for hit in hits]

        whole = ids(k=12)
        pages = [ids(k=3, offset=offset) for offset in (0, 3, 6, 9)]
        assert [row_id for page in pages for row_id in page] == whole
        assert len(set(whole)) == 12


def test_misspelt_names_are_refused(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g")) as client:
        files = {"image": ("a.png", encoded(picture(1)))}
        answer = client.post("/api/search/image", files=files, data={"optoins": '{"k": 1}'})
        assert answer.status_code == 422 and "'optoins' is not known" in answer.text
        answer = client.get("/api/rows", params={"wher": '{"camera": 2}'})
        assert answer.status_code == 422 and "'wher' is not known" in answer.text


def test_another_process_is_seen(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g")) as client:
        with Gallery.open(tmp_path / "g") as other:
            other.add(embed([picture(77)]), [{"image": "new.png"}])
        client.get("/healthz")  # looks at once, and not at the next turn
        answer = search_image(client, encoded(picture(77)), k=1).json()
        assert answer["hits"][0]["id"] == ROWS and answer["rows"] == ROWS + 1
