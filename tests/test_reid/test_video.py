from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.video import UnreadableVideoError, clip_box, read_crops

HEIGHT, WIDTH, FRAMES = 48, 64, 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Frame i is grey of level 20 * i."""
    path = str(tmp_path_factory.mktemp("video") / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(FRAMES):
        writer.write(np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8))
    writer.release()
    return path


def test_crops_are_of_their_frames(video: str) -> None:
    boxes = [(0, (0, 0, 10, 20)), (3, (5, 5, 8, 8)), (3, (60, 40, 30, 30)), (11, (0, 0, 64, 48))]
    crops = list(read_crops(video, boxes))
    assert [crop.shape for crop in crops] == [(20, 10, 3), (8, 8, 3), (8, 4, 3), (48, 64, 3)]
    for (frame, _), crop in zip(boxes, crops, strict=True):
        np.testing.assert_allclose(crop.mean(), 20 * frame, atol=3)


def test_what_gives_no_crop_says_why(video: str) -> None:
    boxes = [(2, (64, 0, 5, 5)), (2, (0, 0, 0, 9)), (2, (0, 0, 9, 9)), (12, (0, 0, 9, 9))]
    outside, empty, crop, late = read_crops(video, boxes)
    assert outside == empty == "the box has no pixel inside the frame of 64x48"
    assert crop.shape == (9, 9, 3)
    assert "ends after 12 frames" in late


def test_each_frame_is_decoded_once(video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"grab": 0, "retrieve": 0}

    class Counting:
        def __init__(self, path: str) -> None:
            self.inner = capture(path)

        def __getattr__(self, name: str):
            calls[name] = calls.get(name, 0) + 1
            return getattr(self.inner, name)

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    boxes = [(frame, (0, 0, 4, 4)) for frame in (1, 1, 1, 5, 5, 9)]
    assert len(list(read_crops(video, boxes))) == 6
    assert calls == {"grab": 10, "retrieve": 3, "release": 1}


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(UnreadableVideoError, match=r"v\.mp4.*ffmpeg"):
        list(read_crops(str(tmp_path / "v.mp4"), [(0, (0, 0, 4, 4))]))
    with pytest.raises(UnreadableVideoError, match="no video at"):
        list(read_crops(str(tmp_path / "w.mp4"), [(0, (0, 0, 4, 4))]))


def test_frames_out_of_order_are_refused(video: str) -> None:
    with pytest.raises(ValueError, match="sorted by frame: 1 after 5"):
        list(read_crops(video, [(5, (0, 0, 4, 4)), (1, (0, 0, 4, 4))]))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 64, 48), (0, 0, 64, 48)),
        ((-5, -5, 10, 10), (0, 0, 5, 5)),
        ((60, 40, 100, 100), (60, 40, 64, 48)),
        ((1.4, 1.6, 2, 2), (1, 2, 3, 4)),
        ((0, 0, 0.4, 10), None),
        ((10, 10, -5, 5), None),
        ((64, 0, 5, 5), None),
        ((-10, -10, 10, 10), None),
    ],
)
def test_clip_box(box, expected) -> None:
    assert clip_box(box, HEIGHT, WIDTH) == expected
