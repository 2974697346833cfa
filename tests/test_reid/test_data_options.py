from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import load_config
from reid.data_options import (
    count_identities,
    dataset_options,
    parse_data,
    parse_splits,
    parse_targets,
    trained_on,
    use_targets,
    use_training_data,
    use_training_sets,
)
from reid.datasets import LAYOUTS, JointTraining
from reid.registry import DATA_SAMPLERS, DATASETS
from reid.synthetic import make_city
from tests.test_reid.test_datasets.made_trees import (
    MAKERS,
    OPTIONS,
    make_flat,
    make_folder,
    make_market1501,
    make_msmt17,
    make_vehicleid,
)

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


# ------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_by_name_and_by_sight(tmp_path, layout) -> None:
    root = MAKERS[layout](tmp_path / "data")
    options = OPTIONS.get(layout, {})
    name, dataset = parse_data(f"{layout}:{root}", **options)
    assert name == "data" and dataset == {"type": LAYOUTS[layout], "root": str(root), **options}
    assert parse_data(str(root), **options)[1] == dataset
    splits = parse_splits(dataset)
    assert DATASETS.build({**dataset, "split": "test"}).splits == splits
    # what lacks a split of its own is tested on whole
    _, whole = parse_data(f"{layout}:{root}", **options, only_test=True)
    tested = parse_splits(whole)
    if layout in ("folder", "csv", "flat"):
        assert not tested.train and len(tested.records("test")) == sum(splits.counts)
    else:
        assert tested == splits


def test_options_in_brackets(tmp_path) -> None:
    vehicles, msmt = make_vehicleid(tmp_path / "v"), make_msmt17(tmp_path / "m")
    name, dataset = parse_data(f"cars=vehicleid[size=small,draws=3, seed=7]:{vehicles}")
    assert name == "cars" and len(parse_splits(dataset).trials) == 3
    assert dataset == {
        "type": "reid.VehicleID",
        "root": str(vehicles),
        "size": "small",
        "draws": 3,
        "seed": 7,
    }
    _, dataset = parse_data(f"msmt17[train=train+val]:{msmt}")
    assert dataset["train"] == "train+val"
    assert parse_data(f"msmt17[camera=None]:{msmt}")[1]["camera"] is None
    assert parse_data(f"msmt17[]:{msmt}")[1] == parse_data(f"msmt17:{msmt}")[1]
    # brackets, commas and colons of a pattern are its own
    cars = make_flat(tmp_path / "cars")
    _, dataset = parse_data(rf"flat[identity_pattern=^([a-z]+_(?:\d{{1,4}}))_,seed=1]:{cars}")
    assert dataset["identity_pattern"] == r"^([a-z]+_(?:\d{1,4}))_" and dataset["seed"] == 1
    assert sum(parse_splits(dataset).counts) == 8
    people = make_folder(tmp_path / "people")
    _, dataset = parse_data(f"folder[train_fraction=0.7]:{people}", only_test=True)
    assert dataset["train_fraction"] == 0.7  # asked for


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "vehicleid[sise=large]:{}",
            "vehicleid takes no option 'sise'; it takes camera, cache, size",
        ),
        ("vehicleid[large]:{}", r"expected vehicleid\[OPTION=VALUE,...\]:PATH, got 'large'"),
        ("vehicleid[split=test]:{}", "takes no option 'split'"),
        ("market[x=1]:{}", "a layout of market1501"),
    ],
)
def test_wrong_options(tmp_path, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        parse_data(text.format(tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_options_of_every_layout(layout) -> None:
    options = dataset_options(layout)
    assert "camera" in options and not {"self", "root", "split", "transforms"} & set(options)


def test_an_identity_pattern_makes_a_folder_flat(tmp_path) -> None:
    cars = make_flat(tmp_path / "cars")
    _, dataset = parse_data(str(cars), "_cam(.)", identity_pattern="^(.+)_cam")
    assert dataset["type"] == "reid.FlatFolder" and dataset["camera_pattern"] == "_cam(.)"
    market = make_market1501(tmp_path / "market")
    assert "identity_pattern" not in parse_data(str(market), identity_pattern="(.)")[1]
    with pytest.raises(FileNotFoundError, match=rf"of that path only '{cars}' is there"):
        parse_data(f"{cars}/images/train")


# ------------------------------------------------------------------------------- several sets


def test_training_on_several_sets(city, tmp_path) -> None:
    config = load_config(CONFIG)
    transforms = config.train_dataloader.dataset.transforms
    people = make_folder(tmp_path / "people")
    datasets = parse_targets([str(city), f"mine={people}"], only_test=False)
    assert use_training_sets(config, datasets) == datasets
    assert list(config.test_dataloader) == list(config.val_dataloader) == ["city", "mine"]
    joint = DATASETS.build(config.train_dataloader.dataset)
    assert isinstance(joint, JointTraining) and joint.names == ("city", "mine")
    assert config.train_dataloader.dataset.transforms == transforms
    alone = [DATASETS.build({**dataset, "split": "train"}) for dataset in datasets.values()]
    assert joint.num_identities == sum(dataset.num_identities for dataset in alone)
    config.model.num_identities = None
    count_identities(config)
    assert config.model.num_identities == joint.num_identities
    # what is tested was not trained on
    tested = [DATASETS.build(loader.dataset) for loader in config.test_dataloader.values()]
    assert not {r.path for r in joint.records} & {r.path for t in tested for r in t.records}


def test_a_set_without_a_test_split_is_trained_on_alone(city, tmp_path) -> None:
    config = load_config(CONFIG)
    msmt = make_msmt17(tmp_path / "msmt")
    datasets = parse_targets([f"msmt17[train=all]:{msmt}", str(city)], only_test=False)
    assert list(use_training_sets(config, datasets)) == ["city"] == list(config.test_dataloader)
    before = dict(config.test_dataloader)
    assert use_training_sets(config, {"msmt": datasets["msmt"]}) == {}
    assert dict(config.test_dataloader) == before


def test_options_of_the_config_are_kept(tmp_path) -> None:
    msmt = str(make_msmt17(tmp_path / "msmt"))
    config = load_config(CONFIG)
    own = dict(type="reid.MSMT17", root="data/msmt17", split="train", train="train+val")
    config.train_dataloader.dataset = dict(own, transforms=[])
    use_training_data(config, parse_data(msmt)[1], "msmt")
    assert config.train_dataloader.dataset.train == "train+val"
    assert config.test_dataloader.msmt.dataset.train == "train+val"
    use_training_data(config, parse_data(f"msmt17[train=train]:{msmt}")[1], "msmt")
    assert config.train_dataloader.dataset.train == "train"
    use_training_data(config, parse_data(str(make_folder(tmp_path / "people")))[1], "people")
    assert "train" not in config.train_dataloader.dataset


@pytest.mark.parametrize("number", [1, 2])
def test_the_cache_of_the_config_is_kept(tmp_path, city, number) -> None:
    config = load_config(CONFIG, ["train_dataloader.dataset.cache=bytes"])
    people = str(make_folder(tmp_path / "people"))
    use_training_sets(config, parse_targets([people, str(city)][:number], only_test=False))
    assert config.train_dataloader.dataset.cache == "bytes"
    assert DATASETS.build(config.train_dataloader.dataset)[0]["inputs"].shape[0] == 3
    assert "cache" not in config.test_dataloader.people.dataset


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_can_be_cached(tmp_path, layout) -> None:
    options = OPTIONS.get(layout, {})
    root = MAKERS[layout](tmp_path / "data")
    _, dataset = parse_data(f"{layout}[cache=bytes]:{root}", **options)
    assert dataset["cache"] == "bytes" and parse_splits(dataset).train
    _, plain = parse_data(f"{layout}:{root}", **options)
    first, second = (DATASETS.build({**config, "split": "test"}) for config in (dataset, plain))
    assert (first[0]["inputs"] == second[0]["inputs"]).all()


def test_names_that_clash(city, tmp_path) -> None:
    people = make_folder(tmp_path / "city")
    with pytest.raises(ValueError, match=f"two data sets are called 'city'; name them, .*{people}"):
        parse_targets([str(city), str(people)], only_test=False)


def test_what_was_trained_on_is_known(city, tmp_path) -> None:
    config = load_config(CONFIG)
    people, cars = make_folder(tmp_path / "people"), make_flat(tmp_path / "cars")
    targets = parse_targets([str(people), str(cars)], identity_pattern="^(.+)_cam")
    targets["people"]["type"] = "reid.ImageFolder"
    assert trained_on(config, targets) == set()
    datasets = parse_targets([str(city), f"folder:{people}"], only_test=False)
    use_training_sets(config, datasets)
    assert trained_on(config, targets) == {"people"}
    use_training_data(config, datasets["people"], "people")
    assert trained_on(config, targets) == {"people"}
    assert trained_on(config, datasets) == set()  # its held-out half
    config.train_dataloader = None
    assert trained_on(config, targets) == set()


# ------------------------------------------------------------------------------- samplers

DATA_SAMPLERS.import_from_location()
SAMPLERS = sorted(DATA_SAMPLERS.module_dict)


@pytest.mark.parametrize("name", SAMPLERS)
def test_batch_size_must_fit_any_sampler(city, name) -> None:
    config = load_config(CONFIG)
    use_training_data(config, parse_data(str(city))[1], "city")
    config.train_dataloader.batch_size = 7
    config.train_dataloader.sampler = dict(type=f"reid.{name}", identities=3, instances=2)
    with pytest.raises(ValueError, match=r"3 identities x 2 images: set batch_size=6"):
        count_identities(config)
    config.train_dataloader.batch_size = 6
    count_identities(config)


def test_a_sampler_without_identities_has_any_batch_size(city) -> None:
    config = load_config(CONFIG, ["train_dataloader.batch_size=5"])
    use_training_data(config, parse_data(str(city))[1], "city")
    config.train_dataloader.sampler = dict(type="DefaultSampler", shuffle=True)
    count_identities(config)
    assert config.model.num_identities == 4
