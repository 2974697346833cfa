from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reid.gallery import Gallery


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


def test_an_interrupted_build_is_not_taken_for_a_whole_one(world, trained, tool, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    code, _, _ = tool(
        "build_gallery", tmp_path / "g", world / "tiny.py", trained, "--batch-size", 1,
        "--images", query(world), tmp_path / "broken.jpg",
    )  # fmt: skip
    assert code == 1 and not (tmp_path / "g" / "extractor.json").exists()
