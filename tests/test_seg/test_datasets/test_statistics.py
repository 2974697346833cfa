from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from seg.datasets import CamVid, Synthia
from seg.datasets import statistics as module
from seg.datasets.statistics import (
    ClassStatistics,
    class_counts,
    class_statistics,
    id_histogram,
    save_statistics,
    statistics_folder,
    unknown_ids,
)
from seg.label_spaces import SPACES, label_table

STREET7 = SPACES["street7"].classes


def write_camvid(root: Path, labels: list[np.ndarray]) -> Path:
    for number, content in enumerate(labels):
        for kind, image in (
            ("images", np.full((*content.shape, 3), 9, np.uint8)),
            ("labels", content),
        ):
            path = root / kind / "train" / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    return root


def maps(number: int = 5, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 12, (8 + i, 11), dtype=np.uint8) for i in range(number)]


def naive(labels: list[np.ndarray], source: str, space: str) -> np.ndarray:
    """Pixel after pixel."""
    table, classes = label_table(source, space), len(SPACES[space].classes)
    counts = np.zeros((len(labels), classes + 1), np.int64)
    for row, content in enumerate(labels):
        for pixel in content.ravel().tolist():
            counts[row, min(int(table[pixel]), classes)] += 1
    return counts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segmentation"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Paths of the label files that were read."""
    paths: list[str] = []
    original = module.read_labels

    def read(path: str, source: str) -> np.ndarray:
        paths.append(path)
        return original(path, source)

    monkeypatch.setattr(module, "read_labels", read)
    return paths


@pytest.mark.parametrize("space", ["street7", "camvid11", "cityscapes19"])
def test_the_counts_are_those_of_all_pixels(tmp_path: Path, space: str) -> None:
    labels = maps()
    found = class_statistics(CamVid(write_camvid(tmp_path, labels), space=space))
    expected = naive(labels, "camvid", space)
    np.testing.assert_array_equal(found.counts, expected)
    assert found.counts.dtype == np.int64
    assert found.classes == SPACES[space].classes and found.space == space
    np.testing.assert_array_equal(found.counts.sum(axis=1), [m.size for m in labels])
    labelled = expected[:, :-1].sum()
    np.testing.assert_allclose(found.frequencies, expected[:, :-1].sum(axis=0) / labelled)
    assert found.ignored == expected[:, -1].sum() / expected.sum()


def test_labels_of_16_bits(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 23, (12, 10)).astype(np.uint16)
    for folder, content in (
        ("RGB", np.full((12, 10, 3), 7, np.uint8)),
        ("GT/LABELS", np.dstack([np.zeros_like(ids), ids * 3, ids])),  # BGR: ids are in red
    ):
        path = tmp_path / folder / "0000000.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), content)
    found = class_statistics(Synthia(tmp_path, split="all"))
    np.testing.assert_array_equal(found.counts, naive([ids], "synthia", "cityscapes19"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (0, 5), (5, 0), (7, 13), (300, 401)])
def test_histograms_equal_bincount(dtype: type, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    expected = np.bincount(labels.ravel(), minlength=np.iinfo(dtype).max + 1)
    np.testing.assert_array_equal(id_histogram(labels), expected)
    np.testing.assert_array_equal(id_histogram(labels[::2, ::3]).sum(), labels[::2, ::3].size)


def test_histograms_count_above_the_precision_of_float32() -> None:
    labels = np.ones((4097, 4097), np.uint8)  # 2^24 + 8193 pixels
    labels[0, 0] = 0
    assert id_histogram(labels)[:2].tolist() == [1, 4097 * 4097 - 1]
    with pytest.raises(ValueError, match=r"expected \(H, W\) uint8 or uint16"):
        id_histogram(labels.astype(np.int64)[:2])


def test_ids_beyond_the_table_are_unknown() -> None:
    table = label_table("camvid", "street7")
    ids = np.zeros(65536, np.int64)
    ids[[0, 3, 11, 12, 300]] = [5, 6, 7, 8, 9]
    assert unknown_ids(ids, table) == {12: 8, 300: 9}
    counts = class_counts(ids, table, 7)
    assert counts[STREET7.index("sky")] == 5 and counts[STREET7.index("drivable")] == 6
    assert counts[-1] == 7 + 8 + 9 and counts.sum() == 35
    assert unknown_ids(ids[:256], label_table("synthia", "cityscapes19")) == {}


def test_the_second_time_no_label_is_read(tmp_path: Path, cache: Path, reads: list[str]) -> None:
    root = write_camvid(tmp_path / "data", maps())
    first = class_statistics(CamVid(root))
    assert len(reads) == 5 and len(list(cache.iterdir())) == 1
    second = class_statistics(CamVid(root))
    assert len(reads) == 5
    np.testing.assert_array_equal(second.counts, first.counts)
    with np.load(next(cache.iterdir()), allow_pickle=False) as content:
        assert set(content.files) == {"key", "counts"}


def test_labels_replaced_by_others_of_the_same_size_are_counted_anew(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", [np.full((8, 8), 3, np.uint8)])
    label = root / "labels/train/0000.png"
    for number, value in enumerate((3, 4)):  # drivable, non-drivable
        _, data = cv2.imencode(".png", np.full((8, 8), value, np.uint8))
        label.write_bytes(data.tobytes().ljust(128, b"\0"))
        os.utime(label, ns=(0, number))
        assert class_statistics(CamVid(root)).counts[0, number] == 64


def test_another_list_or_space_is_another_entry(tmp_path: Path, cache: Path, reads) -> None:
    root = write_camvid(tmp_path / "data", maps())
    class_statistics(CamVid(root))
    class_statistics(CamVid(root, space="camvid11"))
    part = class_statistics(CamVid(root, limit=2))
    assert len(part.counts) == 2
    write_camvid(root, [*maps(4), np.zeros((50, 50), np.uint8)])  # the last file's size changes
    changed = class_statistics(CamVid(root))
    assert changed.counts[4].sum() == 2500
    assert len(list(cache.iterdir())) == 4 and len(reads) == 5 + 5 + 2 + 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no zip",
        lambda data: data[: len(data) // 2],
        lambda data: data[:80] + bytes([data[80] ^ 255]) + data[81:],
        lambda data: data[:200] + bytes(x ^ 85 for x in data[200:260]) + data[260:],
    ],
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, cache: Path, reads, damage) -> None:
    root = write_camvid(tmp_path / "data", maps())
    first = class_statistics(CamVid(root))
    (entry,) = cache.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))
    np.testing.assert_array_equal(class_statistics(CamVid(root)).counts, first.counts)
    assert len(reads) == 10
    class_statistics(CamVid(root))
    assert len(reads) == 10


def test_an_entry_of_other_data_or_with_objects_is_not_used(tmp_path: Path, cache, reads) -> None:
    root = write_camvid(tmp_path / "data", maps())
    first = class_statistics(CamVid(root))
    (entry,) = cache.iterdir()
    key = np.load(entry)["key"]
    for content in (
        {"key": np.array("other"), "counts": first.counts},
        {"key": key, "counts": first.counts[:3]},
        {"key": key, "counts": first.counts.astype(np.float64)},
        {"key": key, "counts": -first.counts - 1},
        {"key": key, "counts": np.array([os.system, 1], object)},
        {"key": key},
    ):
        np.savez(entry, **content)
        np.testing.assert_array_equal(class_statistics(CamVid(root)).counts, first.counts)
    assert len(reads) == 5 * 7


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch, reads) -> None:
    root = write_camvid(tmp_path / "data", maps())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "file"))
    assert class_statistics(CamVid(root)).counts.sum() > 0
    assert save_statistics(CamVid(root), class_statistics(CamVid(root))) is None
    monkeypatch.delenv("REIDSEG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert statistics_folder() is None
    assert class_statistics(CamVid(root)).counts.sum() > 0
    assert len(reads) == 15


def test_where_the_cache_is(monkeypatch, tmp_path: Path) -> None:
    assert statistics_folder() == tmp_path / "cache" / "segmentation"
    monkeypatch.delenv("REIDSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert statistics_folder() == tmp_path / "xdg" / "reidseg" / "segmentation"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert statistics_folder() == tmp_path / ".cache" / "reidseg" / "segmentation"


def test_saved_statistics_are_found(tmp_path: Path, reads) -> None:
    dataset = CamVid(write_camvid(tmp_path / "data", maps()))
    given = ClassStatistics(np.full((5, 8), 3, np.int64), STREET7, "street7")
    folder = tmp_path / "elsewhere"
    path = save_statistics(dataset, given, cache_dir=folder)
    assert path is not None and path.parent == folder
    assert class_statistics(dataset, cache_dir=folder).counts.tolist() == given.counts.tolist()
    assert not reads


def test_images_with_a_class() -> None:
    statistics = ClassStatistics(np.array([[0, 5, 1], [3, 4, 0], [9, 0, 0]]), ("a", "b"))
    assert statistics.images_with(0).tolist() == [1, 2]
    assert statistics.images_with(1, 5).tolist() == [0]
    assert statistics.images_with(1, 6).tolist() == []
    assert statistics.pixels.tolist() == [12, 9]
    np.testing.assert_allclose(statistics.frequencies, [12 / 21, 9 / 21])
    with pytest.raises(ValueError, match=r"class index must be in 0\.\.1, got 2"):
        statistics.images_with(2)
    with pytest.raises(ValueError, match=r"counts must be \(N, 3\)"):
        ClassStatistics(np.zeros((2, 2), np.int64), ("a", "b"))
    empty = ClassStatistics(np.zeros((2, 3), np.int64), ("a", "b"))
    assert empty.frequencies.tolist() == [0, 0] and empty.ignored == 0


def test_threads_and_progress(tmp_path: Path) -> None:
    root = write_camvid(tmp_path / "data", maps(30))
    told: list[tuple[int, int]] = []
    one = class_statistics(
        CamVid(root),
        workers=1,
        progress=lambda done, total: told.append((done, total)),
        cache_dir=tmp_path / "one",
    )
    four = class_statistics(CamVid(root), workers=4, cache_dir=tmp_path / "four")
    np.testing.assert_array_equal(one.counts, four.counts)
    assert told == [(i + 1, 30) for i in range(30)]
    with pytest.raises(ValueError, match="workers must be 1 or more, got 0"):
        class_statistics(CamVid(root), workers=0, cache_dir=tmp_path / "none")


def test_what_cannot_be_counted_is_named(tmp_path: Path, cache: Path) -> None:
    root = write_camvid(tmp_path / "data", maps())
    dataset = CamVid(root)
    (root / "labels/train/0003.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"0003\.png"):
        class_statistics(dataset)
    assert not cache.exists()


def test_unknown_ids_are_ignored_and_told(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "print_log", lambda text, *rest: told.append(text))
    labels = [*maps(2), np.full((4, 4), 77, np.uint8)]
    found = class_statistics(CamVid(write_camvid(tmp_path / "data", labels)))
    assert found.counts[2].tolist() == [0] * 7 + [16]
    assert len(told) == 1
    assert "1 label files have ids" in told[0] and "0002.png: 77" in told[0]


def _count_in_process(rank: int, port: int, root: str, cache: str, queue: Any) -> None:
    import torch.distributed as dist

    os.environ["REIDSEG_CACHE"] = cache
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    read = []
    original = module.read_labels
    module.read_labels = lambda *a: (read.append(a), original(*a))[1]
    try:
        queue.put((rank, len(read_all := class_statistics(CamVid(root)).counts), read_all.tolist()))
    except Exception as error:
        queue.put((rank, str(error), None))
    queue.put((rank, "read", len(read)))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo over tcp")
@pytest.mark.parametrize("broken", [False, True])
def test_one_process_reads_for_all(tmp_path: Path, broken: bool) -> None:
    import socket

    labels = maps()
    root = write_camvid(tmp_path / "data", labels)
    if broken:
        (root / "labels/train/0003.png").write_bytes(b"broken")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [
        context.Process(
            target=_count_in_process, args=(rank, port, str(root), str(tmp_path / "c"), queue)
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=120) for _ in range(4)]
    for process in processes:
        process.join()
    reads = {a[0]: a[2] for a in answers if a[1] == "read"}
    found = {a[0]: a[1:] for a in answers if a[1] != "read"}
    if broken:
        assert "0003.png" in found[0][0]
        assert "the first process could not count" in found[1][0]
    else:
        expected = naive(labels, "camvid", "street7").tolist()
        assert found[0][1] == found[1][1] == expected
        assert reads == {0: 5, 1: 0}
