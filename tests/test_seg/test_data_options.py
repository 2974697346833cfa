from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from mmengine import Config

from engine.cli import load_config
from seg.data_options import parse_targets, set_roots, use_targets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config() -> Config:
    return load_config(ROOT / "configs/seg/resnet50_robustnet_gta5-to-cityscapes.py")


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_a_domain_s_root_is_put_where_it_is_trained_and_tested(config, tmp_path) -> None:
    set_roots(config, [f"gta5={tmp_path}", f"mapillary={tmp_path}"])
    assert config.train_dataloader.dataset.root == str(tmp_path)
    assert config.val_dataloader.gta5.dataset.root == str(tmp_path)
    assert config.test_dataloader.gta5.dataset.root == str(tmp_path)
    assert config.test_dataloader.mapillary.dataset.root == str(tmp_path)
    assert config.test_dataloader.cityscapes.dataset.root == "data/cityscapes"


def test_roots_that_cannot_be(config, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"expected NAME=PATH, got 'gta5'"):
        set_roots(config, ["gta5"])
    with pytest.raises(ValueError, match=r"no domain 'gtav', only bdd100k, .*--target gtav="):
        set_roots(config, [f"gtav={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="no folder at"):
        set_roots(config, [f"gta5={tmp_path / 'absent'}"])


def test_targets_by_layout_name_and_split(tmp_path) -> None:
    camvid = folders(tmp_path / "cv", "images/train", "labels/train")
    targets = parse_targets([str(camvid), f"night=acdc:{tmp_path}", f"cityscapes@train:{tmp_path}"])
    assert targets == {
        "camvid": {"type": "seg.CamVid", "root": str(camvid), "split": "test"},
        "night": {"type": "seg.ACDC", "root": str(tmp_path), "split": "val"},
        "cityscapes": {"type": "seg.Cityscapes", "root": str(tmp_path), "split": "train"},
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["city:{0}"], "with a layout of acdc, bdd100k"),
        (["cityscapes@night:{0}"], "cityscapes has the splits train, val"),
        (["acdc:{0}", "acdc:{0}"], "two data sets are called 'acdc'; name them"),
    ],
)
def test_targets_that_cannot_be(texts, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        parse_targets([text.format(tmp_path) for text in texts])


def test_a_target_s_folder_must_be_recognised(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        parse_targets([str(tmp_path)])


def test_targets_take_pipeline_and_space_of_the_config(config, tmp_path) -> None:
    targets = parse_targets(
        [f"small=mapillary:{tmp_path}", f"camvid:{tmp_path}", f"acdc:{tmp_path}"]
    )
    native, square = config.test_pipeline, config.mapillary_pipeline
    use_targets(config, targets)
    loaders = config.test_dataloader
    assert [*loaders] == ["small", "camvid", "acdc"]
    assert loaders.small.dataset.pipeline == square
    assert loaders.camvid.dataset.pipeline == loaders.acdc.dataset.pipeline == native
    assert {v.dataset.space for v in loaders.values()} == {"cityscapes19"}
    assert all(v.dataset.test_mode and v.batch_size == 1 for v in loaders.values())
    assert config.val_dataloader == loaders
