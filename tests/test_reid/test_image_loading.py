from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reid.image_loading import batch_ranges, default_workers, load_batches, stack
from reid.image_sources import Item


def to_tensor(image: np.ndarray, seed: int | None = None) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def small(image: np.ndarray, seed: int | None = None) -> torch.Tensor:
    return to_tensor(cv2.resize(image, (4, 8)), seed)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Ten images, of which 3 and 7 cannot be read, then five boxes of a video, then an image."""
    folder = tmp_path_factory.mktemp("images")
    found = []
    for i in range(11):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), np.full((8, 4, 3), i, np.uint8))
        found.append(Item(str(path)))
    Path(found[3].path).write_bytes(b"broken")
    Path(found[7].path).unlink()
    video = str(folder / "v.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG")
    for i in range(4):
        writer.write(np.full((48, 64, 3), 50 * i, np.uint8))
    writer.release()
    boxes = [(0, (0, 0, 4, 8)), (1, (0, 0, 4, 8)), (1, (70, 0, 4, 8)), (3, (8, 8, 8, 16))]
    crops = [Item(video, {}, frame, box) for frame, box in [*boxes, (9, (0, 0, 4, 8))]]
    return [*found[:10], *crops, found[10]]


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_comes_once_and_in_order(items: list[Item], workers: int) -> None:
    ranges = batch_ranges(0, len(items), 4)
    batches = list(load_batches(items, ranges, small, workers=workers))
    for batch in batches:
        assert len(batch.positions) == (0 if batch.inputs is None else len(batch.inputs))
    positions = [p for batch in batches for p in batch.positions]
    failed = {p: reason for batch in batches for p, reason in batch.failed}
    assert positions == [p for p in range(16) if p not in failed]
    assert sorted(failed) == [3, 7, 12, 14]
    assert "does not exist" in failed[7] and "no pixel" in failed[12] and "ends" in failed[14]
    levels = torch.cat([b.inputs for b in batches if b.inputs is not None]).float().mean((1, 2, 3))
    expected = [0, 1, 2, 4, 5, 6, 8, 9, 0, 50, 150, 10]
    np.testing.assert_allclose(levels.numpy(), expected, atol=3)


def test_parts_are_independent_of_the_rest(items: list[Item]) -> None:
    """A process that does only the end gets what one that does all gets."""
    ranges = batch_ranges(0, len(items), 3)
    whole = list(load_batches(items, ranges, small))
    end = list(load_batches(items, ranges[4:], small))
    for ours, theirs in zip(end, whole[-len(end) :], strict=True):
        assert ours.positions == theirs.positions and ours.failed == theirs.failed
        assert (ours.inputs is None) == (theirs.inputs is None)
        if ours.inputs is not None:
            assert torch.equal(ours.inputs, theirs.inputs)


def test_images_of_different_sizes_are_refused(items: list[Item]) -> None:
    sizes = [items[0], items[13]]
    with pytest.raises(ValueError, match="different sizes"):
        stack([torch.zeros(3, 8, 4), torch.zeros(3, 8, 5)])
    batches = list(load_batches(sizes, [range(2)], to_tensor))  # two sources: two batches
    assert [tuple(b.inputs.shape) for b in batches] == [(1, 3, 8, 4), (1, 3, 16, 8)]


def test_nothing_gives_nothing() -> None:
    assert list(load_batches([], [], small)) == []
    assert batch_ranges(3, 3, 2) == []
    assert batch_ranges(2, 7, 2) == [range(2, 4), range(4, 6), range(6, 7)]


def test_workers_leave_the_network_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_workers("cpu") == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert default_workers("cuda") == 15
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_workers("cuda") == 3
