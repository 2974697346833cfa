from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.files import decode_image
from reid.gallery import Gallery

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gallery(world, trained, tool):
    path = world / "gallery"
    if not path.exists():
        code, out, err = tool(
            "build_gallery", path, world / "tiny.py", trained, "--data", world / "noon"
        )
        assert code == 0 and "next: python tools/query_gallery.py" in out, err
    return path


def query(world) -> str:
    return str(next((world / "noon" / "query").glob("*.jpg")))


def test_table_and_picture(world, gallery, tool, tmp_path) -> None:
    picture = tmp_path / "ranked.png"
    code, out, err = tool("query_gallery", gallery, query(world), "-k", 3, "--picture", picture)
    assert code == 0, err
    assert picture.stat().st_size > 1000 and str(picture) in out
    assert "3 of" in out and "score" in out and "camera" in out


def test_an_image_of_the_gallery_finds_itself(world, gallery, tool) -> None:
    record = Gallery.open(gallery).records[0]
    code, out, err = tool("query_gallery", gallery, record["image"], "-k", 1)
    assert code == 0 and "1.000" in out, err


def test_own_camera_is_hidden_on_request(world, gallery, tool) -> None:
    path = query(world)
    camera = path.split("_c")[-1][0]
    code, out, err = tool("query_gallery", gallery, path, "--exclude-own-camera", "-k", 50)
    assert code == 0, err
    cameras = {row.split("│")[4].strip() for row in out.splitlines() if row.startswith("│")}
    assert camera not in cameras and cameras - {""}


def test_plain_images_are_appended(world, trained, gallery, tool, tmp_path) -> None:
    target = tmp_path / "plain"
    folders = [world / "noon" / name for name in ("query", "bounding_box_test")]
    for folder in folders:
        code, _, err = tool("build_gallery", target, world / "tiny.py", trained, "--images", folder)
        assert code == 0, err
    found = Gallery.open(target)
    assert len(found) == sum(len(list(folder.glob("*.jpg"))) for folder in folders)
    assert "pid" not in found.records[0]


def test_the_model_must_be_the_gallerys(world, gallery, tool) -> None:
    config = "configs/reid/resnet18_small_market1501.py"
    import torch

    from reid.inference import FeatureExtractor

    model = FeatureExtractor(config, device="cpu").model
    torch.save({"state_dict": model.state_dict()}, world / "other.pth")
    code, _, err = tool(
        "query_gallery",
        gallery,
        query(world),
        "--config",
        config,
        "--checkpoint",
        world / "other.pth",
    )
    assert code == 1 and "model" in err and "Traceback" not in err
    before = len(Gallery.open(gallery))
    code, _, err = tool(
        "build_gallery", gallery, config, world / "other.pth", "--images", query(world)
    )
    assert code == 1 and "model" in err
    assert len(Gallery.open(gallery)) == before


def test_a_gallery_of_another_dimension(world, trained, tool, tmp_path) -> None:
    Gallery.create(tmp_path / "small", 8)
    code, _, err = tool(
        "build_gallery", tmp_path / "small", world / "tiny.py", trained, "--images", query(world)
    )
    assert code == 1 and "512" in err and "8" in err


def test_other_mistakes(world, trained, gallery, tool, tmp_path) -> None:
    code, _, err = tool("query_gallery", tmp_path / "nowhere", query(world))
    assert code == 1 and "nowhere" in err
    (tmp_path / "person.jpg").write_bytes(b"no image")
    code, _, err = tool("query_gallery", gallery, tmp_path / "person.jpg")
    assert code == 1 and "person.jpg" in err
    (tmp_path / "empty").mkdir()
    code, _, err = tool(
        "build_gallery", tmp_path / "g", world / "tiny.py", trained, "--images", tmp_path / "empty"
    )
    assert code == 1 and "no images" in err and not (tmp_path / "g").exists()
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(Path(query(world)).read_bytes())
    code, _, err = tool("query_gallery", gallery, plain, "--exclude-own-camera")
    assert code == 1 and "--camera" in err


def test_unsplit_data_is_stored_whole_under_its_own_names(world, trained, tool, tmp_path) -> None:
    files = sorted((world / "noon" / "query").glob("*.jpg"))
    for file in files:
        folder = tmp_path / "people" / f"person {file.name[:4]}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    target = tmp_path / "gallery"
    code, _, err = tool(
        "build_gallery",
        target,
        world / "tiny.py",
        trained,
        "--data",
        f"folder:{tmp_path / 'people'}",
    )
    assert code == 0, err
    found = Gallery.open(target)
    assert len(found) == len(files)
    assert {record["pid"] for record in found.records.values()} == {
        f"person {file.name[:4]}" for file in files
    }
    code, out, err = tool(
        "query_gallery", target, files[0], "--pid", f"person {files[0].name[:4]}", "-k", 1
    )
    assert code == 0 and "person" in out, err


def test_names_with_leading_zeros_are_the_datas_own(world, trained, tool, tmp_path) -> None:
    """A folder 001 and a camera 01 must match what the user types, not what a parser counted."""
    for i, file in enumerate(sorted((world / "noon" / "query").glob("*.jpg"))[:8]):
        folder = tmp_path / "people" / f"00{i // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"0{i % 2 + 1}_{i}.jpg")
    target, data = tmp_path / "gallery", f"folder:{tmp_path / 'people'}"
    arguments = [target, world / "tiny.py", trained, "--data", data, "--camera-pattern", r"^(\d+)_"]
    code, _, err = tool("build_gallery", *arguments)
    assert code == 0, err
    records = list(Gallery.open(target).records.values())
    assert {r["pid"] for r in records} == {"000", "001"}
    assert {r["camera"] for r in records} == {"01", "02"}
    code, _, err = tool("build_gallery", *arguments)  # again: nothing is doubled
    assert code == 0 and len(Gallery.open(target)) == len(records), err

    first = next(r for r in records if r["camera"] == "01")
    elsewhere = tmp_path / "elsewhere.jpg"
    shutil.copy(first["image"], elsewhere)
    for query, said in ((elsewhere, ["--camera", "01"]), (first["image"], [])):
        code, out, err = tool("query_gallery", target, query, "--exclude-own-camera", *said)
        assert code == 0, err
        cameras = {row.split("│")[4].strip() for row in out.splitlines() if row.startswith("│")}
        assert cameras - {""} == {"02"}


def build(tool, target, world, trained, *arguments) -> tuple[int, str, str]:
    return tool("build_gallery", target, world / "tiny.py", trained, *arguments)


def rows(path) -> list[tuple[int, bytes, dict, bytes | None]]:
    """All that a gallery holds, to the bit."""
    found = []
    with Gallery.open(path) as gallery:
        for ids, vectors, records, thumbnails in gallery.blocks():
            parts = zip(ids.tolist(), vectors, records, thumbnails, strict=True)
            found += [
                (i, vector.tobytes(), record, picture) for i, vector, record, picture in parts
            ]
    return found


def test_a_build_that_stops_is_not_taken_for_a_whole_one(world, trained, tool, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    code, _, err = build(
        tool, tmp_path / "g", world, trained, "--batch-size", 1, "--strict",
        "--images", query(world), tmp_path / "broken.jpg",
    )  # fmt: skip
    assert code == 1 and "broken.jpg" in err
    assert not (tmp_path / "g" / "extractor.json").exists()


def test_unreadable_images_are_left_out_and_listed(world, trained, tool, tmp_path) -> None:
    files = sorted((world / "noon" / "query").glob("*.jpg"))[:3]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "cut.jpg").write_bytes(files[0].read_bytes()[:300])
    images = [files[0], tmp_path / "broken.jpg", files[1], tmp_path / "cut.jpg", files[2]]
    target = tmp_path / "g"
    code, out, err = build(tool, target, world, trained, "--batch-size", 2, "--images", *images)
    assert code == 0, err
    assert "2 images could not be read" in out and "broken.jpg" in out
    with (target / "failed.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in listed] == ["broken.jpg", "cut.jpg"]
    assert "truncated" in listed[1]["reason"]
    assert [record["image"] for _, _, record, _ in rows(target)] == list(map(str, files))
    code, _, err = build(
        tool, tmp_path / "none", world, trained, "--images", tmp_path / "broken.jpg"
    )
    assert code == 1 and "not one of 1 images" in err


def test_a_build_again_adds_only_what_is_new(world, trained, tool, tmp_path) -> None:
    files = sorted((world / "noon" / "query").glob("*.jpg"))[:4]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, [*files[:3], files[0]])))
    code, out, err = build(tool, tmp_path / "g", world, trained, "--images", listed)
    assert code == 0 and "1 of 4 images are in the gallery already" in out, err
    before = rows(tmp_path / "g")
    assert len(before) == 3
    code, out, err = build(tool, tmp_path / "g", world, trained, "--images", *files)
    assert code == 0 and "3 of 4 images are in the gallery already" in out, err
    assert rows(tmp_path / "g")[:3] == before and len(rows(tmp_path / "g")) == 4


def test_a_killed_build_goes_on_as_if_it_had_not_been(world, trained, tool, tmp_path) -> None:
    """A pipe that nobody writes to holds the build in the middle, where it is killed."""
    files = sorted((world / "noon" / "bounding_box_test").glob("*.jpg"))[:11]
    folder = tmp_path / "images"
    folder.mkdir()
    for number, file in enumerate(files):
        if number != 7:
            shutil.copy(file, folder / f"{number:02}.jpg")
    os.mkfifo(folder / "07.jpg")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"images/{number:02}.jpg\n" for number in range(11)))
    target = tmp_path / "killed"
    options = ["--batch-size", "2", "--commit-seconds", "0", "--device", "cpu"]
    command = [target, world / "tiny.py", trained, "--images", listed, *options]
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools/build_gallery.py", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and held(target) < 4:  # two batches are there for good
            time.sleep(0.1)
        assert process.poll() is None, "it ended by itself"
    finally:
        process.kill()
        process.wait()
    assert 4 <= held(target) < 7 and not (target / "extractor.json").exists()
    (folder / "07.jpg").unlink()
    shutil.copy(files[7], folder / "07.jpg")

    code, out, err = tool("build_gallery", *command)
    assert code == 0 and "are in the gallery already" in out, err
    whole = tmp_path / "whole"
    code, _, err = tool("build_gallery", whole, *command[1:])
    assert code == 0, err
    assert len(rows(target)) == 11
    assert rows(target) == rows(whole)


def held(path) -> int:
    try:
        with Gallery.open(path) as gallery:
            return len(gallery)
    except FileNotFoundError:
        return 0


def test_small_pictures_are_kept(world, trained, tool, tmp_path) -> None:
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), np.full((600, 300, 3), (0, 0, 255), np.uint8))
    code, _, err = build(tool, tmp_path / "g", world, trained, "--images", large, query(world))
    assert code == 0, err
    pictures = [decode_image(picture) for _, _, _, picture in rows(tmp_path / "g")]
    assert [picture.shape for picture in pictures] == [(256, 128, 3), (64, 32, 3)]
    assert np.abs(pictures[0].astype(int) - (255, 0, 0)).max() < 8
    code, _, err = build(
        tool, tmp_path / "bare", world, trained, "--no-thumbnails", "--images", query(world)
    )
    assert code == 0, err
    assert [picture for _, _, _, picture in rows(tmp_path / "bare")] == [None]


def test_files_of_the_same_bytes(world, trained, tool, tmp_path) -> None:
    files = sorted((world / "noon" / "query").glob("*.jpg"))[:2]
    copy = tmp_path / "copy.jpg"
    shutil.copy(files[0], copy)
    code, out, err = build(tool, tmp_path / "all", world, trained, "--images", *files, copy)
    assert code == 0 and "1 image with the bytes of another one: added" in out, err
    assert len(rows(tmp_path / "all")) == 3
    assert "sha256" not in rows(tmp_path / "all")[0][2]

    target = tmp_path / "once"
    options = ["--skip-duplicates", "--images"]
    code, out, err = build(tool, target, world, trained, *options, *files, copy)
    assert code == 0 and "1 image with the bytes of another one: left out" in out, err
    assert [record["image"] for _, _, record, _ in rows(target)] == list(map(str, files))
    assert rows(target)[0][2]["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    other = tmp_path / "other.jpg"
    shutil.copy(files[1], other)
    code, out, err = build(tool, target, world, trained, *options, other)  # also in a later build
    assert code == 0 and len(rows(target)) == 2, err


def test_what_a_table_says_is_kept(world, trained, tool, tmp_path) -> None:
    files = sorted((world / "noon" / "query").glob("*.jpg"))[:2]
    table = tmp_path / "list.csv"
    lines = [f"{file},{i},north {i},{i + 0.5}" for i, file in enumerate(files)]
    table.write_text("\n".join(["path,pid,camera,time", *lines]))
    code, _, err = build(tool, tmp_path / "g", world, trained, "--images", table)
    assert code == 0, err
    expected = [
        {"image": str(file), "pid": i, "camera": f"north {i}", "time": i + 0.5}
        for i, file in enumerate(files)
    ]
    assert [record for _, _, record, _ in rows(tmp_path / "g")] == expected


def test_form_of_a_new_gallery(world, trained, tool, tmp_path) -> None:
    target = tmp_path / "g"
    form = ["--metric", "euclidean", "--float16"]
    code, out, err = build(tool, target, world, trained, *form, "--images", query(world))
    assert code == 0 and "float16, euclidean" in out, err
    with Gallery.open(target) as found:
        assert (found.metric, found.dtype) == ("euclidean", "float16")
    code, out, err = tool("query_gallery", target, query(world), "-k", 1)
    assert code == 0 and "Euclidean" in out, err
    other = ["--metric", "cosine", "--images", query(world)]
    code, _, err = build(tool, target, world, trained, *other)
    assert code == 1 and "--metric" in err and "euclidean" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--images", "x.jpg"],
        ["c.py", "w.pth", "--features", "x"],
        ["c.py", "w.pth", "--images", "x.jpg", "--tune", "0.9"],
        ["--features", "x", "--skip-duplicates"],
        ["c.py", "w.pth", "--images", "x.jpg", "--batch-size", "0"],
    ],
)
def test_options_that_do_not_go_together(tool, tmp_path, arguments) -> None:
    code, _, err = tool("build_gallery", tmp_path / "g", *arguments)
    assert code == 2 and "error:" in err


def test_an_index_is_measured(world, trained, tool, tmp_path) -> None:
    form = ["--index", "HNSW4,Flat", "--tune", 0.9]
    target = tmp_path / "g"
    code, out, err = build(tool, target, world, trained, *form, "--data", world / "noon")
    assert code == 0 and "recall@10" in out and "<- chosen" in out, err
    with Gallery.open(target) as found:
        assert found.index == "HNSW4,Flat" and found.stats()["index"]["built"]
    wrong = ["--index", "LSH", "--images", query(world)]
    code, _, err = build(tool, target, world, trained, *wrong)
    assert code == 1 and "LSH" in err  # at once, before anything is embedded
