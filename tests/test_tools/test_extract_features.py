from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.features import read_features
from reid.gallery import Gallery
from reid.inference import FeatureExtractor


@pytest.fixture
def model(world) -> list[Path]:
    """Config and checkpoint of a network that nobody trained."""
    checkpoint = world / "untrained.pth"
    if not checkpoint.exists():
        network = FeatureExtractor(world / "tiny.py", device="cpu").model
        torch.save({"state_dict": network.state_dict()}, checkpoint)
    return [world / "tiny.py", checkpoint]


def test_a_folder_becomes_features_and_a_gallery(world, model, tool, tmp_path) -> None:
    folder, out = world / "noon" / "query", tmp_path / "f"
    files = sorted(folder.glob("*.jpg"))
    extract = ["extract_features", *model, "--images", folder, "--out", out, "--shard-size", 5]
    code, printed, err = tool(*extract)
    assert code == 0 and f"{len(files)} rows of dimension 512" in printed, err
    features, records = read_features(out)
    assert [record["image"] for record in records] == [str(file) for file in files]
    extractor = FeatureExtractor(*model, "cpu")
    np.testing.assert_allclose(features, extractor(files), atol=1e-5)
    made = json.loads((out / "manifest.json").read_text())
    assert made["model"] == extractor.fingerprint and made["run"]["versions"]["torch"]

    code, printed, err = tool(*extract)
    assert code == 0 and f"{len(files)} of {len(files)} entries were done before" in printed, err
    code, _, err = tool(*extract[:4], world / "dusk" / "query", "--out", out)
    assert code == 1 and "another list of images" in err

    for again in (False, True):
        code, printed, err = tool("build_gallery", tmp_path / "g", "--features", out)
        assert code == 0 and ("already" in printed) is again, err
    gallery = Gallery.open(tmp_path / "g")
    assert len(gallery) == len(files) and gallery.model == extractor.fingerprint
    code, printed, err = tool("query_gallery", tmp_path / "g", files[0], "-k", 1)
    assert code == 0 and "1.000" in printed, err


def test_a_data_set_keeps_its_labels(world, model, tool, tmp_path) -> None:
    code, _, err = tool(
        "extract_features", *model, "--data", world / "noon", "--split", "query", "--out",
        tmp_path / "f", "--format", "safetensors", "--dtype", "float16", "--workers", 0,
    )  # fmt: skip
    assert code == 0, err
    features, records = read_features(tmp_path / "f")
    assert features.dtype == np.float16
    for record in records:
        name = Path(record["image"]).name
        assert record["pid"] == int(name[:4]) and record["camera"] == int(name[6])
        assert record["split"] == "query"


def test_boxes_of_a_video(model, tool, tmp_path) -> None:
    video = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(6):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()
    boxes = tmp_path / "b.csv"
    boxes.write_text("frame,x,y,w,h,track\n4,0,0,20,40,7\n1,2,2,20,40,7\n1,90,0,5,5,8\n")
    arguments = [*model, "--images", video, "--boxes", boxes, "--out", tmp_path / "f"]
    code, out, err = tool("extract_features", *arguments)
    assert code == 0 and "warning: 1 entry could not be read" in out, err
    assert "no pixel inside" in (tmp_path / "f" / "failed.csv").read_text()
    _, records = read_features(tmp_path / "f")
    assert [(r["frame"], r["track"]) for r in records] == [(1, 7), (4, 7)]
    code, _, err = tool("build_gallery", tmp_path / "g", "--features", tmp_path / "f")
    assert code == 0 and len(Gallery.open(tmp_path / "g")) == 2, err  # one image, two boxes

    code, _, err = tool(
        "extract_features", *arguments[:-1], tmp_path / "s", "--strict", "--workers", 0
    )
    assert code == 1 and "no pixel inside" in err
    video.write_bytes(b"no video")
    code, _, err = tool("extract_features", *arguments[:-1], tmp_path / "h")
    assert code == 1 and "v.avi" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "nowhere"], "nowhere"),
        (["--images", "empty"], "no images"),
        (["--images", "list.csv"], "no column 'path'"),
        (["--images", "broken.jpg"], "not one of 1 image can be read"),
        (["--images", "broken.jpg", "--split", "test"], "belong to --data"),
        (["--data", "empty", "--boxes", "b.csv"], "belong to a video"),
        (["--images", "broken.jpg", "--shard-size", "0"], "1 row or more"),
    ],
)
def test_mistakes(model, tool, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("list.csv").write_text("file\na.png\n")
    Path("broken.jpg").write_bytes(b"no image")
    code, _, err = tool("extract_features", *model, *arguments, "--out", "f")
    assert code == 1 and message in err and "Traceback" not in err


def test_a_gallery_needs_a_model_or_features(model, tool, tmp_path) -> None:
    for arguments in (["--images", tmp_path], [*model, "--features", tmp_path]):
        code, _, err = tool("build_gallery", tmp_path / "g", *arguments)
        assert code == 2 and "CONFIG and CHECKPOINT" in err
    code, _, err = tool("build_gallery", tmp_path / "g", "--features", tmp_path / "none")
    assert code == 1 and "no features at" in err and not (tmp_path / "g").exists()
