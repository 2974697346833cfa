from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from mmengine import Config

from engine.provenance import Provenance, parse_config
from seg.protocols import PROTOCOLS, deviations, get_protocol, stamp

ROOT = Path(__file__).parents[2]


def loader(kind: str, *steps: dict[str, object], split: str = "val") -> dict[str, object]:
    pipeline = [dict(type="seg.LoadImage"), *steps, dict(type="PackSegInputs")]
    return dict(dataset=dict(type=f"seg.{kind}", root="data", split=split, pipeline=pipeline))


LABELS = dict(type="seg.LoadLabels")


def robustnet() -> dict[str, object]:
    """A config that follows robustnet-r50 to the letter."""
    train = [
        dict(type="seg.LoadImage"),
        LABELS,
        dict(type="RandomResize", scale=(1914, 1052), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type="seg.ClassCrop", crop_size=(768, 768)),
        dict(type="RandomFlip", prob=0.5),
        dict(
            type="seg.Albumentations",
            transforms=[
                dict(type="ColorJitter", brightness=0.4, contrast=(0.6, 1.4), saturation=0.4,
                     hue=0.1, p=0.5),
                dict(type="GaussianBlur", sigma_limit=(0.15, 1.3), blur_limit=0, p=1.0),
            ],
        ),
        dict(type="PackSegInputs"),
    ]  # fmt: skip
    return dict(
        protocol="robustnet-r50",
        model=dict(
            backbone=dict(depth=50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), ibn="b"),
            decode_head=dict(type="seg.Head", dilations=(6, 12, 18), align_corners=True),
            auxiliary_head=dict(in_index=2, loss_decode=dict(loss_weight=0.4)),
            test_cfg=dict(mode="whole"),
        ),
        train_dataloader=dict(
            batch_size=16,
            sampler=dict(type="seg.ClassUniformSampler"),
            dataset=dict(type="seg.GTA5", split="train", drop="robustnet", pipeline=train),
        ),
        train_cfg=dict(max_iters=40000),
        optim_wrapper=dict(
            optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
        ),
        param_scheduler=[dict(type="PolyLR", power=0.9, end=40000, by_epoch=False)],
        test_dataloader=dict(
            cityscapes=loader("Cityscapes", LABELS),
            bdd100k=loader("BDD100K", LABELS),
            mapillary=loader("Mapillary", LABELS, dict(type="seg.ResizeAndCropSquare", size=1536)),
            gta5=loader("GTA5", LABELS),
            synthia=loader("Synthia", LABELS, split="train"),
        ),
    )  # fmt: skip


def rein() -> dict[str, object]:
    train = [
        dict(type="seg.LoadImage"),
        LABELS,
        dict(type="Resize", scale=(1280, 720)),
        dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PhotoMetricDistortion"),
        dict(type="PackSegInputs"),
    ]
    return dict(
        protocol="rein-512",
        model=dict(
            backbone=dict(type="seg.FrozenViT"),
            test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
        ),
        train_dataloader=dict(
            batch_size=4, dataset=dict(type="seg.GTA5", split="all", pipeline=train)
        ),
        train_cfg=dict(max_iters=40000),
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05)),
        param_scheduler=[
            dict(type="LinearLR", end=1500, by_epoch=False),
            dict(type="PolyLR", power=0.9, begin=1500, end=40000, by_epoch=False),
        ],
        test_dataloader=dict(
            cityscapes=loader("Cityscapes", dict(type="Resize", scale=(1024, 512)), LABELS),
            mapillary=loader(
                "Mapillary", dict(type="Resize", scale=(1024, 512), keep_ratio=True), LABELS
            ),
        ),
    )


def at(config: object, path: str) -> object:
    for key in path.split(".") if path else ():
        config = config[int(key) if key.isdigit() else key]
    return config


def put(config: object, path: str, value: object) -> None:
    parents, _, last = path.rpartition(".")
    at(config, parents)[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize("config", [robustnet, rein])
def test_a_config_to_the_letter_has_no_deviation(config) -> None:
    for form in (config(), Config(config())):
        assert deviations(form, world_size=1) == []
        name = form["protocol"]
        assert stamp(form, world_size=1) == {"name": name, "deviations": [], "text": name}
    spread = config()
    spread["train_dataloader"]["batch_size"] //= 4  # 4 processes, as the authors have
    assert deviations(spread, world_size=4) == []
    assert deviations(spread, world_size=1) != []


CHANGES = [
    ("train_cfg.max_iters", 20000, "iterations 20,000 instead of 40,000"),
    ("train_dataloader.batch_size", 8, "batch size 8 instead of 16"),
    ("optim_wrapper.accumulative_counts", 2, "batch size 32 instead of 16"),
    ("train_dataloader.dataset.split", "all", "training split all instead of train"),
    ("train_dataloader.dataset.drop", (), "dropped training images none instead of robustnet"),
    ("train_dataloader.dataset.type", "seg.Synthia", "training data Synthia instead of GTA5"),
    ("train_dataloader.dataset.limit", 100, "only a part of the training images"),
    ("train_dataloader.sampler.type", "seg.SeededSampler", "sampler SeededSampler instead of Cla"),
    ("train_dataloader.dataset.pipeline.3.crop_size", (512, 512), "crop 512x512 instead of 768x76"),
    ("train_dataloader.dataset.pipeline.2.ratio_range", (0.75, 1.5), "RandomResize.ratio_range"),
    ("train_dataloader.dataset.pipeline.4.prob", 0.0, "RandomFlip.prob is 0 instead of 0.5"),
    ("train_dataloader.dataset.pipeline.5.transforms.0.hue", 0.2, "ColorJitter.hue is 0.2"),
    ("train_dataloader.dataset.pipeline.5.transforms", [], "no Gaussian blur of sigma"),
    ("optim_wrapper.optimizer.type", "AdamW", "optimiser AdamW instead of SGD"),
    ("optim_wrapper.optimizer.lr", 0.02, "learning rate 0.02 instead of 0.01"),
    ("optim_wrapper.optimizer.momentum", 0.0, "momentum 0 instead of 0.9"),
    ("optim_wrapper.optimizer.weight_decay", 1e-4, "weight decay 0.0001 instead of 0.0005"),
    ("optim_wrapper.optimizer.nesterov", True, "Nesterov's momentum yes instead of no"),
    ("optim_wrapper.paramwise_cfg", dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))),
     "factors on the learning rate decode_head x10 instead of none"),
    ("optim_wrapper.paramwise_cfg", dict(norm_decay_mult=0.0),
     "factors on weight decay norm x0 instead of none"),
    ("optim_wrapper.constructor", "LearningRateDecayOptimizerConstructor", "constructor of the op"),
    ("param_scheduler.0.power", 1.0, "PolyLR.power is 1 instead of 0.9"),
    ("param_scheduler.0.end", 80000, "end of the poly schedule 80,000 instead of 40,000"),
    ("param_scheduler.0.eta_min", 1e-4, "PolyLR.eta_min is 0.0001 instead of 0"),
    ("param_scheduler.0.by_epoch", True, "PolyLR.by_epoch is yes instead of no"),
    ("param_scheduler.0.type", "CosineAnnealingLR", "no poly schedule"),
    ("param_scheduler", [*robustnet()["param_scheduler"], dict(type="MultiStepLR")],
     "additional schedules MultiStepLR"),
    ("load_from", "other.pth", "training began with the weights of other.pth"),
    ("train_dataloader.sampler.fraction", 0.9, "ClassUniformSampler.fraction is 0.9 instead of 0"),
    ("train_dataloader.dataset.missing", "drop", "training images without a partner are left out"),
    ("train_dataloader.dataset.pipeline.3.rule", "contains", "ClassCrop.rule is contains instead"),
    ("train_dataloader.dataset.pipeline.2.scale", (1280, 720), "RandomResize.scale is 1280x720"),
    ("train_dataloader.dataset.pipeline.0", [dict(type="Resize", scale=(640, 360))],
     "additional resizing of training images Resize"),
    ("model.data_preprocessor", dict(test_cfg=dict(size_divisor=32)), "test images are padded"),
    ("test_dataloader.cityscapes.dataset.drop", ["a"] * 3, "cityscapes: dropped images 3 of"),
    ("test_dataloader.cityscapes.dataset.missing", "drop",
     "cityscapes: images without a partner are left out"),
    ("test_dataloader.cityscapes.dataset.pipeline.1.unknown", "ignore",
     "cityscapes: labels that the data set does not define are ignored"),
    ("test_dataloader.gta5.dataset.split", "train", "gta5: split train instead of val"),
    ("test_dataloader.gta5.dataset.pipeline.0", [dict(type="Resize", scale=(1280, 720))],
     "gta5: test size 1280x720 instead of native"),
    ("model.backbone.depth", 18, "backbone.depth (ResNet-50) 18 instead of 50"),
    ("model.backbone.dilations", (1, 1, 2, 4), "backbone.dilations (output stride 16)"),
    ("model.auxiliary_head", None, "auxiliary head"),
    ("model.test_cfg.mode", "slide", "inference slide instead of whole"),
    ("test_dataloader.cityscapes.dataset.split", "train", "cityscapes: split train instead of val"),
    ("test_dataloader.mapillary.dataset.pipeline.2.size", 1024, "square of 1024 instead of squ"),
    ("test_dataloader.mapillary.dataset.indices", 10, "mapillary: only a part of the images"),
    ("test_dataloader.cityscapes.dataset.type", "seg.ACDC", "cityscapes: ACDC is not one of the"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "expected"), CHANGES)
def test_each_deviation_is_found(path: str, value: object, expected: str) -> None:
    config = deepcopy(robustnet())  # LABELS stands in several pipelines
    put(config, path, value)
    found = deviations(config, world_size=1)
    assert any(expected in line for line in found), found
    text = stamp(config, world_size=1)["text"]
    assert text.startswith("robustnet-r50 with ") and all(line in text for line in found)


def test_test_sizes_windows_and_extra_steps() -> None:
    config = rein()
    config["model"]["test_cfg"]["stride"] = (256, 256)
    steps = config["test_dataloader"]["cityscapes"]["dataset"]["pipeline"]
    steps[1] = dict(type="Resize", scale=(2048, 1024))
    steps.insert(1, dict(type="seg.Corrupt", name="fog", severity=3))
    mapillary = config["test_dataloader"]["mapillary"]["dataset"]["pipeline"]
    mapillary[1]["keep_ratio"] = False
    assert deviations(config, world_size=1) == [
        "stride of the windows 256x256 instead of 341x341",
        "cityscapes: test size 2048x1024 instead of 1024x512",
        "cityscapes: additional test steps Corrupt",
        "mapillary: aspect kept no instead of yes",
    ]
    del steps[1:3]
    assert "cityscapes: test size native instead of 1024x512" in deviations(config, world_size=1)


@pytest.mark.parametrize("wrapper", [
    dict(type="RandomApply", prob=0.1), dict(type="RandomChoice"), dict(type="OneOf", p=0.1),
])  # fmt: skip
@pytest.mark.parametrize(("place", "text"), [
    (2, "random scale"), (3, "training crop not set"), (4, "horizontal flip"), (5, "Gaussian blur"),
])  # fmt: skip
def test_what_is_drawn_at_random_is_not_a_step_of_the_protocol(
    wrapper: dict[str, object], place: int, text: str
) -> None:
    config = robustnet()
    steps = config["train_dataloader"]["dataset"]["pipeline"]
    steps[place] = dict(**wrapper, transforms=[steps[place]])
    found = deviations(config, world_size=1)
    assert any(text in line for line in found), found
    assert any("only within a step that is drawn at random" in line for line in found)


def test_resizing_of_training_images_that_protocols_do_not_have() -> None:
    config = rein()
    steps = config["train_dataloader"]["dataset"]["pipeline"]
    steps.insert(3, dict(type="RandomResize", scale=(1280, 720), ratio_range=(0.5, 2.0)))
    assert deviations(config, world_size=1) == [
        "additional resizing of training images RandomResize"
    ]
    steps[3] = steps[2]
    assert deviations(config, world_size=1) == ["additional resizing of training images Resize"]


def test_labels_at_their_own_size() -> None:
    config = rein()
    steps = config["test_dataloader"]["cityscapes"]["dataset"]["pipeline"]
    steps[1], steps[2] = steps[2], steps[1]
    assert deviations(config, world_size=1) == ["cityscapes: labels are resized with the images"]


def test_hrda_has_factors_of_its_own() -> None:
    config = Config.fromfile(ROOT / "configs/seg/mit_b5_hrda_gta5-to-cityscapes.py").to_dict()
    assert deviations(config, world_size=1) == []
    config["optim_wrapper"]["paramwise_cfg"] = None
    assert deviations(config, world_size=1) == [
        "factors on the learning rate none instead of decode_head x10",
        "factors on weight decay none instead of norm x0",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "configs/seg").glob("*.py")), ids=lambda p: p.stem)
def test_our_configs_have_no_deviation_also_when_read_from_a_checkpoint(path: Path) -> None:
    config = Config.fromfile(path)
    assert deviations(config, world_size=1) == []
    trained = parse_config(config.pretty_text)
    last = config.train_cfg.max_iters
    assert deviations(config, Provenance(config=trained, iteration=last)) == []
    listed = json.loads(json.dumps(config.to_dict()))  # no tuple is left
    assert deviations(listed, Provenance(config=listed, iteration=last)) == []


def test_what_the_checkpoint_was_trained_with_counts() -> None:
    config = robustnet()
    trained = deepcopy(config)
    config["train_dataloader"] = None  # as the testing tool has it
    assert deviations(config) == ["the config does not say how the model was trained"]
    assert deviations(config, Provenance(config=trained, iteration=40000)) == []
    trained["train_cfg"]["max_iters"] = trained["param_scheduler"][0]["end"] = 1000
    assert deviations(config, Provenance(config=trained, iteration=1000)) == [
        "iterations 1,000 instead of 40,000"
    ]
    trained["protocol"] = None
    found = deviations(config, Provenance(config=trained, iteration=1000))
    assert "the checkpoint was trained under no protocol" in found


def test_the_model_that_was_trained_is_compared_and_named_once() -> None:
    config, trained = robustnet(), deepcopy(robustnet())
    trained["model"]["auxiliary_head"]["loss_decode"]["loss_weight"] = 0.0
    found = deviations(config, Provenance(config=trained, iteration=40000))
    assert found == [
        "trained model: auxiliary_head.loss_decode.loss_weight (auxiliary head) 0 instead of 0.4"
    ]
    for each in (config, trained):
        each["model"]["auxiliary_head"]["loss_decode"]["loss_weight"] = 1.0
    assert len(deviations(config, Provenance(config=trained, iteration=40000))) == 1


def test_what_the_checkpoint_does_not_say_is_a_deviation() -> None:
    unknown = ["the checkpoint does not say how it was trained"]
    nothing = [*unknown, "iteration of the checkpoint unknown"]
    assert deviations(robustnet(), Provenance()) == nothing
    assert deviations(robustnet(), Provenance(iteration=40000)) == unknown
    assert deviations(robustnet(), Provenance(config=robustnet())) == nothing[1:]
    changed = robustnet()
    changed["train_dataloader"]["batch_size"] = 1  # of the config alone: says nothing of weights
    assert deviations(changed, Provenance()) == nothing


def test_processes_of_the_test_are_not_those_of_the_training(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = robustnet()
    assert deviations(config, Provenance(config=config, iteration=40000)) == []
    assert deviations(config, Provenance(config=config, iteration=40000, world_size=4)) == [
        "batch size 64 instead of 16"
    ]
    assert deviations(config) == ["batch size 32 instead of 16"]  # about to be trained here


def test_a_resumed_run_did_not_begin_with_other_weights() -> None:
    config = dict(robustnet(), load_from="run/iter_8000.pth", resume=True)
    assert deviations(config, world_size=1) == []


def test_the_last_checkpoint_counts() -> None:
    config = robustnet()
    assert deviations(config, Provenance(config=config, iteration=8000)) == [
        "the checkpoint of iteration 8,000 of 40,000, not the last"
    ]
    best = Provenance(config=config, iteration=8000, chosen_by="cityscapes/mIoU")
    assert deviations(config, best) == ["the best checkpoint by cityscapes/mIoU, not the last"]


def test_no_protocol_and_unknown_ones() -> None:
    for config in ({}, {"protocol": None}, {"protocol": "none"}):
        assert stamp(config) == {"name": "none", "deviations": [], "text": "none"}
    with pytest.raises(ValueError, match="unknown protocol 'robustnet'; did you mean robustnet-r5"):
        stamp({"protocol": "robustnet"})
    with pytest.raises(ValueError, match="there are robustnet-r50, ibnnet-2018"):
        get_protocol("xyz")


def test_protocols_are_frozen_and_say_where_they_come_from() -> None:
    assert set(PROTOCOLS) == {"robustnet-r50", "ibnnet-2018", "rein-512", "hrda-dg"}
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.url.startswith("https://") and protocol.domains
        with pytest.raises(dataclasses.FrozenInstanceError):
            protocol.batch = 1
        hash(protocol)


def test_an_empty_config_under_each_protocol_deviates_and_does_not_fail() -> None:
    for name in PROTOCOLS:
        assert deviations({"protocol": name, "train_dataloader": {}}, world_size=1)


def test_importing_protocols_is_cheap() -> None:
    code = "import sys, seg.protocols; print([m for m in ('torch', 'mmseg') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
