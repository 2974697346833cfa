from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from backbones.checkpoint import read_checkpoint
from tests.test_tools.conftest import forget_runs

ROOT = Path(__file__).parent.parent.parent
CLASSES = {"blob": (40, 200, 60), "leaf": (60, 60, 210), "sky": (220, 170, 40)}

CONFIG = """
_base_ = {base!r}

source_domain = "sources"
precision = dict(_delete_=True)
visualizer = dict(_delete_=True, type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
model = dict(
    type="cls.Classifier",
    backbone=dict(type="backbones.CifarResNet", depth=8, norm="bn", num_classes=3),
)
_data = dict(type="cls.DomainFolder", root={root!r})
_loader = dict(
    batch_size=8, num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="cls.collate"),
)
train_dataloader = dict(
    batch_size=8, num_workers=0, drop_last=True,
    dataset=dict(**_data, domains="photo", split="train", fraction=0.75),
    sampler=dict(type="cls.SeededSampler"),
    collate_fn=dict(type="cls.collate"),
)
test_dataloader = dict(
    sources=dict(
        **_loader, dataset=dict(**_data, domains="photo", split="val", fraction=0.75)),
    art=dict(**_loader, dataset=dict(
        **_data, domains="art", split="all",
        transforms=[dict(type="Resize", height=16, width=16)])),
)
val_dataloader = dict(sources=test_dataloader["sources"])
train_cfg = dict(type="engine.EpochLoop", max_epochs=2, val_interval=1)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.05, momentum=0.9))
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/<domain>/<class>/`` and ``toy.py``."""
    folder = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(0)
    for domain, shift in (("photo", 0), ("art", 60)):
        for name, colour in CLASSES.items():
            for number in range(8):
                noise = rng.integers(-40, 40, (16, 16, 3))
                pixels = (np.array(colour) + shift + noise).clip(0, 255).astype(np.uint8)
                path = folder / "data" / domain / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    base = str(ROOT / "configs/_base_/runtime/cls.py")
    (folder / "toy.py").write_text(CONFIG.format(base=base, root=str(folder / "data")))
    return folder


@pytest.fixture
def runs(blobs, tool) -> list[Path]:
    """Checkpoints of seeds 0 and 1, trained once, of two epochs."""
    files = [blobs / f"run_s{seed}" / "epoch_2.pth" for seed in (0, 1)]
    for seed, file in enumerate(files):
        if not file.exists():
            from engine.cli import build_runner, load_config

            config = load_config(blobs / "toy.py")
            build_runner(config, work_dir=str(file.parent), seed=seed).train()
            forget_runs()
    return files


def results(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "results.json").read_text())["results"]


def test_several_seeds_with_everything(blobs, runs, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_cls", blobs / "toy.py", *runs, "--appearance", "--style", blobs / "data" / "art",
        "--paper", "--per-class", "--pictures", 4, "--curves", "--html", "--work-dir", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    for word in (
        *("run_s0/epoch_2", "run_s1/epoch_2", "run (mean of 2)", " ± ", "sources", "(source)"),
        *("(target)", "toy.py, seed 0", "under appearance shifts", "ResNet-50 IBN-b", "colours"),
        *("Resize 16x16, float32", "images as they are", "accuracy by class", "calibration"),
        *("most frequent confusions", "seed 1, epoch 2", "written: "),
    ):
        assert word in out, (word, out)
    assert "warning" not in out and "not comparable" not in out and "…" not in out
    first, second = results(tmp_path)
    assert (first["seed"], second["seed"], first["epoch"]) == (0, 1, 2)
    assert first["weights"] != second["weights"] and first["recipe"] == second["recipe"]
    art = first["domains"]["art"]
    assert set(art["metrics"]) == {"top-1", "class_accuracy"}  # of three classes
    assert sum(art["counts"]) == 24 and first["domains"]["sources"]["counts"] == [2, 2, 2]
    assert sum(n for _, _, n in art["confusion"]) == 24 and len(art["data"]["fingerprint"]) == 64
    right = sum(n for t, p, n in art["confusion"] if t == p)
    assert art["metrics"]["top-1"] == pytest.approx(right / 24)
    assert list(art["shifts"]) == [
        *("RGB+50", "R+50", "std x1.5", "painting", "colours", "fourier"),
    ]
    assert len(json.loads((tmp_path / "results.json").read_text())["averages"]) == 1
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert len(list(tmp_path.glob("confusion_*.png"))) == 4
    wrong = sum(bool(d["worst"]) for r in (first, second) for d in r["domains"].values())
    assert len(list(tmp_path.glob("mistakes_*.png"))) == wrong
    assert "ResNet-50 IBN-b (paper)" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "manifest_test.json").exists()


def test_earlier_results_and_the_default_folder(blobs, runs, tool, tmp_path) -> None:
    code, out, err = tool("test_cls", blobs / "toy.py", runs[0], "--domains", "art")
    assert code == 0, err
    folder = runs[0].parent / "test_epoch_2"
    (alone,) = results(folder)
    assert list(alone["domains"]) == ["art"] and "accuracy by class" not in out
    more = folder / "results.json"
    code, out, err = tool("test_cls", "--results", more, more, "--work-dir", tmp_path)
    assert code == 0, err
    assert [r["name"] for r in results(tmp_path)] == ["run_s0/epoch_2", "run_s0/epoch_2 (2)"]
    assert results(tmp_path)[0]["domains"] == alone["domains"] and "mean of" not in out


def test_a_backbone_s_own_weights(blobs, runs, tool, tmp_path) -> None:
    state = read_checkpoint(runs[0])["state_dict"]
    bare = {k.removeprefix("backbone."): v for k, v in state.items()}
    for name, content in (("bare", bare), ("wrapped", {"state_dict": {
            f"module.{k}": v for k, v in bare.items()}})):  # fmt: skip
        torch.save(content, tmp_path / f"{name}.pth")
    code, _, err = tool(
        "test_cls", blobs / "toy.py", runs[0], tmp_path / "bare.pth", tmp_path / "wrapped.pth",
        "--work-dir", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    own, *others = results(tmp_path / "out")
    for other in others:
        assert other["domains"] == own["domains"]
        assert other["seed"] is None and other["recipe"] == ""


def test_published_weights(blobs, runs, tool, tmp_path, monkeypatch) -> None:
    state = read_checkpoint(runs[0])["state_dict"]
    torch.save({k.removeprefix("backbone."): v for k, v in state.items()}, tmp_path / "x.pth")
    asked = []

    def official(name: str) -> Path:
        asked.append(name)
        return tmp_path / "x.pth"

    monkeypatch.setattr("backbones.official_weights", official)
    code, out, err = tool(
        "test_cls", blobs / "toy.py", "official:resnet50_ibn_a", "--work-dir", tmp_path / "out"
    )
    assert code == 0, err
    assert asked == ["resnet50_ibn_a"] and "resnet50_ibn_a" in out and "(official)" in out
    monkeypatch.undo()
    code, _, err = tool("test_cls", blobs / "toy.py", "official:resnet51")
    assert code == 1 and "no official weights are known for 'resnet51'" in err


def test_other_data(blobs, runs, tool, tmp_path) -> None:
    photo = blobs / "data" / "photo"
    code, out, err = tool(
        "test_cls", blobs / "toy.py", runs[0], "--target", f"mine=folder:{photo}",
        f"domains@art:{blobs / 'data'}", "--work-dir", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    (found,) = results(tmp_path)
    assert {k: sum(d["counts"]) for k, d in found["domains"].items()} == {"mine": 24, "art": 24}
    assert "mine (target)" in re.sub(r"[\s┃]+", " ", out) or "(target)" in out


def test_classes_that_are_not_those_of_the_training(blobs, runs, tool, tmp_path) -> None:
    for names, code_, words in (
        (("blob", "leaf", "sea"), 0, "'sky' is 'sea'"),
        (("blob", "leaf"), 1, "3 outputs, the data set"),
    ):
        data = tmp_path / "_".join(names)
        for name in names:
            (data / name).mkdir(parents=True)
            cv2.imwrite(str(data / name / "x.png"), np.zeros((16, 16, 3), np.uint8))
        code, out, err = tool(
            "test_cls", blobs / "toy.py", runs[0], "--target", data, "--work-dir", tmp_path / "o"
        )
        assert code == code_ and words in out + err, out + err


def test_the_same_classes_in_another_order(blobs, runs, tool, tmp_path) -> None:
    content = read_checkpoint(runs[0])
    content["meta"]["dataset_meta"]["classes"] = ["sky", "leaf", "blob"]
    torch.save(content, tmp_path / "turned.pth")
    code, _, err = tool("test_cls", blobs / "toy.py", tmp_path / "turned.pth")
    assert code == 1 and "in another order: blob, leaf, sky instead of sky, leaf, blob" in err


def test_a_best_checkpoint_is_marked(blobs, runs, tool, tmp_path) -> None:
    best = tmp_path / "best_sources_top-1_epoch_2.pth"
    best.write_bytes(runs[0].read_bytes())
    code, out, err = tool("test_cls", blobs / "toy.py", best, "--work-dir", tmp_path / "out")
    assert code == 0, err
    assert "chosen as the best by sources/top-1" in out


def test_mistakes_end_in_one_line(blobs, runs, tool, tmp_path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes(runs[0].read_bytes()[:3000])
    toy = blobs / "toy.py"
    ten = ("--cfg-options", "model.backbone.num_classes=10")
    for arguments, words in (
        ((toy, "absent.pth"), "no checkpoint at absent.pth; the published one: official:NAME"),
        ((toy, cut), "cut.pth"),
        ((blobs / "absent.py", cut), "no config at"),
        ((toy, runs[0], *ten), "was trained on 3 classes, the network of the config has 10"),
        ((toy, runs[0], "--data", "photo=/x"), "no data 'photo'"),
        ((toy, runs[0], "--domains", "photo"), "tests on sources, art, not on photo"),
        ((toy, runs[0], "--appearance", "fog"), "unknown appearance 'fog'"),
        ((toy, cut, "--curves"), "no training curves in"),
        (("--results", tmp_path / "absent.json"), "no results at"),
    ):
        code, _, err = tool("test_cls", *arguments, "--work-dir", tmp_path / "t")
        assert code == 1 and words in err and "Traceback" not in err, err
    for arguments, words in (
        ((), "give CONFIG and CHECKPOINT"),
        ((toy,), "give a CHECKPOINT"),
        ((toy, cut, "--pictures", -1), "expected 0 or more"),
    ):
        code, _, err = tool("test_cls", *arguments)
        assert code == 2 and words in err
