from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")

from seg.inference import Segmenter, build_model
from seg.label_spaces import SPACES, label_table
from seg.visualization import overlay

CONFIG = """
default_scope = "mmseg"
model = dict(
    type="seg.Segmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120, 110, 100], std=[60, 60, 60], bgr_to_rgb=True
    ),
    backbone=dict(type="backbones.CifarResNet", depth=8),
    decode_head=dict(
        type="FCNHead", in_index=2, in_channels=64, channels=16, num_convs=1,
        num_classes={classes}, norm_cfg=dict(type="BN"),
    ),
    test_cfg=dict(mode="slide", crop_size=(32, 32), stride=(20, 20)),
)
test_pipeline = [
    dict(type="seg.LoadImage"), dict(type="seg.LoadLabels"), dict(type="PackSegInputs")
]
"""


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    """Config and checkpoint of a tiny network with many different answers."""
    return make_model(tmp_path, 19)


def make_model(folder: Path, classes: int) -> tuple[Path, Path]:
    from engine.cli import load_config

    config, checkpoint = folder / f"tiny_{classes}.py", folder / f"tiny_{classes}.pth"
    config.write_text(CONFIG.format(classes=classes))
    network, _ = build_model(load_config(config))
    torch.nn.init.normal_(network.decode_head.conv_seg.weight)
    torch.save({"state_dict": network.state_dict(), "meta": {}}, checkpoint)
    return config, checkpoint


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "town" / ".hidden").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ("a.png", "a.jpg", "town/b.PNG", "town/._b.png", "town/.hidden/c.png", "notes.txt")
    for name in names:
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_CUBIC)
        data = cv2.imencode(".jpg" if name.endswith("jpg") else ".png", picture)[1].tobytes()
        (folder / name).write_bytes(data if "notes" not in name else b"text")
    return folder


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_a_folder(tool, model, photos, tmp_path) -> None:
    out = tmp_path / "new" / "out"
    code, text, err = tool("segment", *model, photos, "--out", out)
    assert code == 0, err
    assert "3 of 3 inputs labelled" in text and "3/3" in err
    names = ("a_png", "a_jpg", "town/b")
    expected = {f"labels/{n}.png" for n in names} | {f"overlays/{n}.jpg" for n in names}
    assert files(out) == expected | {"segment.json", "sources.jsonl"}

    segmenter = Segmenter(*model, "cpu")
    picture = Image.open(out / "labels/town/b.png")
    labels = segmenter(photos / "town/b.PNG")
    assert picture.mode == "P" and len(np.unique(labels)) > 1
    np.testing.assert_array_equal(np.asarray(picture), labels)
    colours = np.array(SPACES["cityscapes19"].palette)[labels]
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours)
    image = np.asarray(Image.open(photos / "town/b.PNG").convert("RGB"))
    drawn = np.asarray(Image.open(out / "overlays/town/b.jpg")).astype(int)
    assert np.abs(drawn - overlay(image, labels, segmenter.palette)).mean() < 10
    assert json.loads((out / "segment.json").read_text())["classes"][0] == "road"


def test_a_file_that_changed_is_labelled_anew(tool, model, photos, tmp_path) -> None:
    out = tmp_path / "out"
    run = ("segment", *model, photos, "--out", out)
    assert tool(*run)[0] == 0
    cv2.imwrite(str(photos / "a.png"), np.zeros((20, 30, 3), np.uint8))
    code, text, _ = tool(*run)
    assert code == 0 and "1 of 3 inputs labelled" in text and "2 were there" in text
    assert Image.open(out / "labels/a_png.png").size == (30, 20)


def test_one_name_never_stands_for_two_files(tool, model, photos, tmp_path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert tool("segment", *model, photos / "town", "--out", out)[0] == 0
    other.mkdir()
    (other / "b.png").write_bytes((photos / "a.png").read_bytes())
    code, _, err = tool("segment", *model, other, "--out", out)
    assert code == 1 and "choose another --out" in err and "b.PNG" in err


def test_resuming(tool, model, photos, tmp_path) -> None:
    out = tmp_path / "out"
    run = ("segment", *model, photos, "--out", out)
    assert tool(*run)[0] == 0
    (out / "labels/a_png.png").unlink()
    (out / "labels/a_jpg.png").write_bytes(b"mine")
    code, text, _ = tool(*run)
    assert code == 0 and "1 of 3 inputs labelled" in text and "2 were there already" in text
    assert (out / "labels/a_jpg.png").read_bytes() == b"mine"
    code, text, _ = tool(*run, "--overwrite")
    assert code == 0 and "3 of 3" in text
    assert Image.open(out / "labels/a_jpg.png").mode == "P"


def test_another_model_is_not_mixed_in(tool, model, photos, tmp_path) -> None:
    out = tmp_path / "out"
    assert tool("segment", *model, photos, "--out", out)[0] == 0
    for other in (make_model(tmp_path, 7), (*model, "--ids", "cityscapes")):
        code, _, err = tool("segment", *other, photos, "--out", out)
        assert code == 1 and "--overwrite" in err and err.count("\n") == 1


def test_a_bad_file_does_not_stop_the_run(tool, model, photos, tmp_path) -> None:
    good = (photos / "a.png").read_bytes()
    (photos / "broken.png").write_bytes(good[: len(good) // 2])
    code, text, _ = tool("segment", *model, photos, "--out", tmp_path / "out", "--no-overlay")
    assert code == 1
    assert "3 of 4 inputs labelled" in text and "1 failed" in text and "broken.png" in text
    assert files(tmp_path / "out") == {
        *(
            "segment.json",
            "sources.jsonl",
            "labels/a_png.png",
            "labels/a_jpg.png",
            "labels/town/b.png",
        )
    }


def test_cityscapes_ids(tool, model, photos, tmp_path) -> None:
    out = tmp_path / "out"
    image = photos / "a.png"
    code, _, err = tool("segment", *model, image, "--out", out, "--ids", "cityscapes")
    assert code == 0, err
    ids = np.asarray(Image.open(out / "labels/a.png"))
    labels = Segmenter(*model, "cpu")(image)
    np.testing.assert_array_equal(label_table("cityscapes", "cityscapes19")[ids], labels)
    assert ids.min() >= 7  # 0..6 are void

    seven = make_model(tmp_path, 7)
    code, _, err = tool("segment", *seven, image, "--out", tmp_path / "b", "--ids", "cityscapes")
    assert code == 1 and "19 Cityscapes classes" in err


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    for i in range(frames):
        frame = np.full((48, 64, 3), 20 * i, np.uint8)
        frame[10:30, 4 * i : 4 * i + 20] = (0, 0, 255)
        writer.write(frame)
    writer.release()


def test_a_video(tool, model, tmp_path) -> None:
    video, out = tmp_path / "drive.mp4", tmp_path / "out"
    write_video(video, 7)
    run = ("segment", *model, video, "--out", out)
    code, _, err = tool(*run, "--label-every", 3)
    assert code == 0, err
    assert "7/7" in err
    frames = {f"labels/drive/{i:06d}.png" for i in (0, 3, 6)}
    expected = {"segment.json", "sources.jsonl", "overlays/drive.mp4", "labels/drive/frames.json"}
    assert files(out) == frames | expected
    made = cv2.VideoCapture(str(out / "overlays/drive.mp4"))
    assert made.get(cv2.CAP_PROP_FRAME_COUNT) == 7 and made.get(cv2.CAP_PROP_FPS) == 10
    assert made.read()[1].shape == (48, 64, 3)
    original = cv2.VideoCapture(str(video)).read()[1][..., ::-1].copy()
    labels = Segmenter(*model, "cpu")(original)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "labels/drive/000000.png")), labels)
    assert "1 were there already" in tool(*run)[1]


def test_a_broken_video(tool, model, photos, tmp_path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    code, text, _ = tool("segment", *model, tmp_path / "bad.mp4", photos / "a.png", "--out", out)
    assert code == 1 and "1 of 2" in text and "bad.mp4" in text
    assert files(out) == {"segment.json", "sources.jsonl", "labels/a.png", "overlays/a.jpg"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.png",), "no image, folder or video at absent.png"),
        (("{photos}", "--alpha", "2"), "--alpha"),
        (("{photos}/town/.hidden/empty",), "no image or video in"),
        (("{video}", "--no-overlay"), "--label-every"),
        (("{photos}", "--label-every", "-1"), "--label-every"),
    ],
)
def test_mistakes(tool, model, photos, tmp_path, arguments, message) -> None:
    (photos / "town/.hidden/empty").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"")
    given = [a.format(photos=photos, video=tmp_path / "v.mp4") for a in arguments]
    code, _, err = tool("segment", *model, *given, "--out", tmp_path / "out")
    assert code == 1 and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_another_head(tool, model, photos, tmp_path) -> None:
    _, seven = make_model(tmp_path, 7)
    code, _, err = tool("segment", model[0], seven, photos, "--out", tmp_path / "out")
    assert code == 1 and "conv_seg" in err and "Traceback" not in err
