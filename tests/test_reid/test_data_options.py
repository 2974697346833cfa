from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import load_config
from reid.data_options import count_identities, parse_data, use_targets, use_training_data
from reid.synthetic import make_city

CONFIG = Path(__file__).parent.parent.parent / "configs/reid/resnet18_small_market1501.py"


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "city"
    make_city(root, identities=8, cameras=2, images_per_camera=2, size=(32, 16))
    return root


def test_parse(city) -> None:
    assert parse_data(str(city)) == ("city", {"type": "reid.Market1501", "root": str(city)})
    name, dataset = parse_data(f"home=folder:{city}", r"_c(\d)", only_test=True)
    assert (name, dataset["type"], dataset["camera_pattern"]) == (
        "home",
        "reid.ImageFolder",
        r"_c(\d)",
    )
    assert dataset["train_fraction"] == 0.0


def test_parse_errors(city) -> None:
    with pytest.raises(ValueError, match="a layout of market1501, folder, csv"):
        parse_data(f"duke:{city}")
    with pytest.raises(FileNotFoundError, match="no data at /nowhere"):
        parse_data("/nowhere")


def test_training_data_and_targets(city) -> None:
    config = load_config(CONFIG)
    train_transforms = config.train_dataloader.dataset.transforms
    name, dataset = parse_data(str(city))
    use_training_data(config, dataset, name)
    assert config.train_dataloader.dataset.root == str(city)
    assert config.train_dataloader.dataset.transforms == train_transforms
    use_targets(config, {"a": dataset, "b": dict(dataset, camera=None)})
    assert list(config.test_dataloader) == list(config.val_dataloader) == ["a", "b"]
    for loader in config.test_dataloader.values():
        assert loader.dataset.split == "test"
        assert loader.dataset.transforms == config.test_pipeline
    assert config.test_dataloader.b.dataset.camera is None
    count_identities(config)
    assert config.model.num_identities == 4


def test_batch_size_must_fit_the_sampler(city) -> None:
    config = load_config(CONFIG, ["train_dataloader.batch_size=60"])
    with pytest.raises(ValueError, match="set batch_size=64"):
        count_identities(config)


def test_one_identity_cannot_be_trained_on(tmp_path, city) -> None:
    config = load_config(CONFIG)
    lonely = tmp_path / "lonely"
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (lonely / split).mkdir(parents=True)
        images = sorted((city / split).glob("*.jpg"))
        pid = next(p.name[:4] for p in images if p.name[:4] not in ("0000", "-1_c"))
        for image in images:
            if image.name.startswith(pid):
                (lonely / split / image.name).write_bytes(image.read_bytes())
    use_training_data(config, parse_data(str(lonely))[1], "lonely")
    with pytest.raises(ValueError, match="has 1 identity"):
        count_identities(config)
