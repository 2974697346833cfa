from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from imaging import cache as module
from imaging.cache import available_memory, image_reader
from imaging.files import UnreadableImageError, read_image
from imaging.samples import as_transform

from .conftest import picture

PIPELINE = [
    dict(type="Resize", height=32, width=16),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="RandomErasing", p=0.5),
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    names = []
    for i, size in enumerate([(60, 30), (32, 16), (90, 41), (10, 10)]):
        names.append(str(folder / f"{i}.{'jpg' if i % 2 else 'png'}"))
        cv2.imwrite(names[-1], picture(i, size))
    return names


class Images(Dataset):
    """A data set as the rooms have them: a reader and transforms."""

    def __init__(self, paths: list[str], cache: object, transforms: object = PIPELINE) -> None:
        self.read = image_reader(cache, paths, transforms)
        self.transforms = as_transform(transforms)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, position: int) -> torch.Tensor:
        return self.transforms(self.read(position), position)


@pytest.mark.parametrize("kind", ["resized", "bytes"])
@pytest.mark.parametrize("upfront", [False, True])
@pytest.mark.parametrize(
    "first", [PIPELINE[0], dict(type="AntialiasedResize", height=32, width=16)]
)
def test_pixels_are_those_of_a_run_without(paths, kind, upfront, first) -> None:
    transforms = [first, *PIPELINE[1:]]
    plain = Images(paths, None, transforms)
    kept = Images(paths, dict(kind=kind, upfront=upfront), transforms)
    assert kept.read.known.tolist() == [int(upfront)] * 4
    for _ in range(2):  # as read, and as kept
        for position in (2, 0, 3, 1):
            assert torch.equal(kept[position], plain[position])
    assert kept.read.known.all()


def test_whole_images_as_bytes(paths) -> None:
    for read in (image_reader(None, paths, None), image_reader("bytes", paths, None)):
        for _ in range(2):
            for position, path in enumerate(paths):
                np.testing.assert_array_equal(read(position), read_image(path))


@pytest.mark.parametrize("kind", ["resized", "bytes"])
def test_what_is_kept_is_not_read_again_nor_changed(paths, kind, monkeypatch) -> None:
    read = image_reader(kind, paths, PIPELINE)
    before = read(0).copy()
    read(0)[:] = 0  # a transform that works in place
    for name in ("read_image", "read_bytes"):
        monkeypatch.setattr(module, name, lambda path: pytest.fail(f"{path} was read again"))
    np.testing.assert_array_equal(read(0), before)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["resized", "bytes"])
def test_workers_share_it(paths, kind, method) -> None:
    data = Images(paths, kind)
    loader = DataLoader(data, 2, num_workers=2, multiprocessing_context=method)
    batches = torch.cat(list(loader))
    assert data.read.known.all()  # what the workers read is here, too
    plain = Images(paths, None)
    assert torch.equal(batches, torch.stack([plain[i] for i in range(4)]))


@pytest.mark.parametrize("kind", ["resized", "bytes"])
def test_files_that_cannot_be_read(paths, kind, tmp_path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    broken = [str(tmp_path / "absent.jpg"), str(tmp_path / "text.jpg")]
    read = image_reader(kind, [*broken, *paths], PIPELINE)
    for _ in range(2):
        with pytest.raises(UnreadableImageError, match=r"absent.jpg.*does not exist"):
            read(0)
        with pytest.raises(UnreadableImageError, match=r"text.jpg.*no image"):
            read(1)
    assert read(2).ndim == 3


def test_a_file_that_is_growing_is_not_kept(paths, tmp_path) -> None:
    path = tmp_path / "0.png"
    path.write_bytes(b"")
    read = image_reader("bytes", [str(path)], None)
    path.write_bytes(Path(paths[0]).read_bytes())
    np.testing.assert_array_equal(read(0), read_image(paths[0]))
    assert not read.known.any()


@pytest.mark.parametrize(
    ("cache", "transforms", "message"),
    [
        ("decoded", PIPELINE, "expected None, 'resized', 'bytes'"),
        (dict(kind="bytes", up_front=True), PIPELINE, "upfront=True"),
        ("resized", PIPELINE[1:], "begin with a Resize"),
        ("resized", [dict(PIPELINE[0], p=0.5)], "begin with a Resize"),
        ("resized", None, "begin with a Resize"),
        ("resized", lambda image, seed: image, "begin with a Resize"),
    ],
)
def test_wrong_options(paths, cache, transforms, message) -> None:
    with pytest.raises(ValueError, match=message):
        image_reader(cache, paths, transforms)


def test_memory_is_stated_and_refused(paths, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "print_log", lambda text, *_: said.append(text))
    monkeypatch.setattr(module, "available_memory", lambda: 10 * 2**20)
    image_reader("resized", paths, PIPELINE)
    assert said == ["the cache of 4 images of 32x16 takes up to 0.00 GB of 0.01 GB available"]
    large = [dict(type="Resize", height=2048, width=1024)]  # 24 MB
    with pytest.raises(MemoryError, match=r"0\.02 GB, and 0\.01 GB of shared memory .*--shm-size"):
        image_reader("resized", paths, large)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3000")
    with pytest.raises(MemoryError, match="3000 processes"):
        image_reader("resized", paths, PIPELINE)
    monkeypatch.setattr(module, "available_memory", lambda: None)  # the system does not say
    image_reader("resized", paths, PIPELINE)
    assert len(said) == 2


def test_available_memory(tmp_path) -> None:
    memory = available_memory()
    assert memory is None or memory > 0
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert module._meminfo(tmp_path / "meminfo") == 2 * 2**20
    assert module._meminfo(tmp_path / "absent") is None
    assert module._group_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert module._group_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("150\n")
    assert module._group_memory(tmp_path) == 50
