from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config

from imaging.files import UnreadableImageError
from reid.extraction import extract_features
from reid.features import read_features
from reid.image_sources import Item, list_items
from reid.inference import FeatureExtractor

ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "configs/reid/resnet18_ibn_a_small_market1501.py"


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    config = Config.fromfile(str(CONFIG))
    config.test_pipeline = [dict(type="Resize", height=32, width=16)]
    return FeatureExtractor(config, device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(23):
        cv2.imwrite(str(folder / f"{i:02}.png"), rng.integers(0, 256, (20, 10, 3), np.uint8))
    return list_items([folder])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("shard-*")}


def test_rows_are_the_extractors_own(extractor, items, tmp_path) -> None:
    seen = []
    result = extract_features(
        extractor, items, tmp_path / "f", shard_size=8, progress=lambda *now: seen.append(now)
    )
    assert (result.entries, result.failed, result.done_before, result.repeated) == (23, 0, 0, 0)
    assert seen[-1] == (23, 23) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    features, records = read_features(tmp_path / "f")
    np.testing.assert_allclose(features, extractor([i.path for i in items]), atol=1e-5)
    assert [record["image"] for record in records] == [item.path for item in items]


def test_a_stopped_extraction_goes_on(extractor, items, tmp_path) -> None:
    extract_features(extractor, items, tmp_path / "whole", shard_size=8, workers=0)
    extract_features(extractor, items, tmp_path / "f", shard_size=8, workers=0)
    expected = contents(tmp_path / "whole")
    assert contents(tmp_path / "f") == expected
    # as after a kill between the two files of a shard, and within one
    (tmp_path / "f" / "shard-00001.safetensors").unlink()
    (tmp_path / "f" / ".shard-00002.safetensors.1.partial").write_bytes(b"half")
    (tmp_path / "f" / "shard-00002.safetensors").unlink()
    (tmp_path / "f" / "shard-00002.jsonl").unlink()
    result = extract_features(extractor, items, tmp_path / "f", workers=0)
    assert result.done_before == 8
    assert contents(tmp_path / "f") == expected and not list((tmp_path / "f").glob(".*"))
    again = extract_features(extractor, items, tmp_path / "f", workers=0)
    assert again.done_before == 23 and contents(tmp_path / "f") == expected


def test_another_model_or_list_is_refused(extractor, items, tmp_path) -> None:
    extract_features(extractor, items, tmp_path, shard_size=8, workers=0)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another list of images"):
        extract_features(extractor, items[1:], tmp_path, workers=0)
    other = FeatureExtractor(CONFIG, device="cpu")
    with pytest.raises(ValueError, match="another model"):
        extract_features(other, items, tmp_path, workers=0)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_are_left_out_and_listed(extractor, items, tmp_path, workers) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    mixed = [
        *items[:3], Item(str(tmp_path / "broken.jpg")), items[0], Item(str(tmp_path / "gone.jpg"))
    ]  # fmt: skip
    result = extract_features(extractor, mixed, tmp_path / "f", workers=workers)
    assert (result.entries, result.failed, result.repeated) == (6, 2, 1)
    features, records = read_features(tmp_path / "f")
    assert [r["image"] for r in records] == [i.path for i in [*items[:3], items[0]]]
    np.testing.assert_allclose(features[0], features[3], atol=1e-5)
    listed = (tmp_path / "f" / "failed.csv").read_text()
    assert "broken.jpg" in listed and "gone.jpg" in listed and "does not exist" in listed
    with pytest.raises(UnreadableImageError, match=r"broken\.jpg"):
        extract_features(extractor, mixed, tmp_path / "g", workers=workers, strict=True)


def test_not_one_readable_image_is_an_error(extractor, tmp_path) -> None:
    lost = [Item(str(tmp_path / f"{i}.png")) for i in range(3)]
    with pytest.raises(UnreadableImageError, match=r"not one of 3 images.*0\.png"):
        extract_features(extractor, lost, tmp_path / "f", workers=0)
    with pytest.raises(ValueError, match="the list is empty"):
        extract_features(extractor, [], tmp_path / "f")


def test_a_broken_model_is_refused_with_the_image(extractor, items, tmp_path) -> None:
    config = Config.fromfile(str(CONFIG))
    config.test_pipeline = extractor.transforms.config
    broken = FeatureExtractor(config, device="cpu", batch_size=4)
    with torch.no_grad():
        broken.model.neck.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"not finite, first .*00\.png"):
        extract_features(broken, items, tmp_path / "f", workers=0)
    assert not list((tmp_path / "f").glob("shard-*"))


def test_float16_halves_the_file(extractor, items, tmp_path) -> None:
    extract_features(extractor, items, tmp_path / "full", workers=0)
    extract_features(extractor, items, tmp_path / "half", workers=0, dtype="float16")
    full, half = (read_features(tmp_path / name)[0] for name in ("full", "half"))
    np.testing.assert_array_equal(full.astype(np.float16), half)


def in_a_fork(work: Callable[[], object]) -> multiprocessing.Process:
    """A process of its own that has imported everything already."""

    def quietly() -> None:
        torch.set_num_threads(1)
        work()
        os._exit(0)  # without pytest's own end

    process = multiprocessing.get_context("fork").Process(target=quietly)
    process.start()
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_processes_write_what_one_writes(extractor, items, tmp_path) -> None:
    def part(rank: int) -> None:
        store = f"file://{tmp_path / 'store'}"
        torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
        extract_features(extractor, items, tmp_path / "two", shard_size=4, workers=0)

    both = [in_a_fork(lambda rank=rank: part(rank)) for rank in range(2)]
    extract_features(extractor, items, tmp_path / "one", shard_size=4, workers=0)
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    expected = contents(tmp_path / "one")
    assert len(expected) == 12 and contents(tmp_path / "two") == expected
    assert (tmp_path / "two" / "failed.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_killed_process_is_gone_on_with(extractor, items, tmp_path) -> None:
    def stand_still(done: int, total: int) -> None:
        if done > 8:  # the first two shards are on disk, the third is begun
            time.sleep(600)

    process = in_a_fork(
        lambda: extract_features(
            extractor, items, tmp_path / "f", shard_size=4, workers=0, progress=stand_still
        )
    )
    while not (tmp_path / "f" / "shard-00001.safetensors").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    result = extract_features(extractor, items, tmp_path / "f", workers=0)
    assert result.done_before == 8
    extract_features(extractor, items, tmp_path / "whole", shard_size=4, workers=0)
    assert contents(tmp_path / "f") == contents(tmp_path / "whole")
