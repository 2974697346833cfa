from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

ROOT = Path(__file__).parent.parent.parent
SIZE = (32, 64)

CONFIG = """
_base_ = {base!r}

source_domain = "game"
precision = dict(_delete_=True)
visualizer = None
pipeline = [dict(type="seg.LoadImage"), dict(type="seg.LoadLabels"), dict(type="PackSegInputs")]
model = dict(
    type="seg.Segmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True, pad_val=0,
        seg_pad_val=255, size_divisor=1,
    ),
    backbone=dict(type="backbones.ResNet", depth=18),
    decode_head=dict(
        type="FCNHead", in_channels=512, in_index=3, channels=8, num_convs=1, concat_input=False,
        num_classes=19, norm_cfg=dict(type="BN"), align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True),
    ),
    test_cfg=dict(mode="whole"),
)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="seg.SeededSampler", seed=0),
    dataset=dict(type="seg.GTA5", root={game!r}, split="all", pipeline=pipeline),
)
_loader = dict(
    batch_size=1, num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
)
test_dataloader = dict(
    game=dict(**_loader, dataset=dict(
        type="seg.GTA5", root={game!r}, split="all", pipeline=pipeline, test_mode=True)),
    city=dict(**_loader, dataset=dict(
        type="seg.Cityscapes", root={city!r}, split="val", pipeline=pipeline, test_mode=True)),
)
val_dataloader = test_dataloader
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9))
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, save_best="city/mIoU", rule="greater"),
)
"""


def write_pair(image: Path, label: Path, number: int) -> None:
    """A blue sky, a grey road and a box that is a car."""
    generator = np.random.default_rng(number)
    labels = np.full(SIZE, 7, np.uint8)  # Cityscapes ids: road
    labels[:14] = 23  # sky
    top, left = generator.integers(8, 18), generator.integers(0, 40)
    labels[top : top + 10, left : left + 16] = 26  # car
    labels[-2:] = 1  # ego vehicle: ignored
    colours = {7: (90, 90, 90), 23: (220, 160, 90), 26: (30, 30, 180), 1: (0, 0, 0)}
    picture = np.zeros((*SIZE, 3), np.uint8)
    for value, colour in colours.items():
        picture[labels == value] = colour
    noise = generator.integers(0, 20, picture.shape)
    for path, content in ((image, (picture + noise).clip(0, 255)), (label, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), content.astype(np.uint8))


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``game`` (GTA5), ``city`` (Cityscapes) and ``toy.py``."""
    folder = tmp_path_factory.mktemp("streets")
    for number in range(1, 4):
        write_pair(*(folder / f"game/{kind}/{number:05d}.png" for kind in ("images", "labels")),
                   number)  # fmt: skip
        stem = f"val/ulm/ulm_{number:06d}_000019"
        write_pair(
            folder / f"city/leftImg8bit/{stem}_leftImg8bit.png",
            folder / f"city/gtFine/{stem}_gtFine_labelIds.png",
            10 + number,
        )
    (folder / "toy.py").write_text(
        CONFIG.format(
            base=str(ROOT / "configs/_base_/runtime/seg.py"),
            game=str(folder / "game"),
            city=str(folder / "city"),
        )
    )
    return folder


@pytest.fixture
def runs(streets, tool) -> list[Path]:
    """Run folders of seeds 0 and 1, trained once, of two iterations."""
    folders = [streets / f"run_s{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        if not (folder / "iter_2.pth").exists():
            from engine.cli import build_runner, load_config

            config = load_config(streets / "toy.py")
            build_runner(config, work_dir=str(folder), seed=seed).train()
    return folders


def results(folder: Path) -> list[dict[str, object]]:
    return json.loads((folder / "results.json").read_text())["results"]


def test_several_seeds_with_everything(streets, runs, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_seg", streets / "toy.py", *(run / "iter_2.pth" for run in runs), "--boundary",
        "--pictures", 1, "--html", "--work-dir", tmp_path,
    )  # fmt: skip
    assert code == 0, err
    for word in (
        *("run_s0/iter_2", "run_s1/iter_2", "toy", "game (source)", "city", "gap to source"),
        *("± ", "(n=2)", "protocol: none", "boundary", "IoU by class", "percent", "written: "),
    ):
        assert word in out, out
    assert "warning" not in out
    first, second = results(tmp_path)
    assert (first["seed"], second["seed"], first["iteration"]) == (0, 1, 2)
    assert first["weights"] != second["weights"] and first["source"] == "game"
    city = first["domains"]["city"]
    assert set(city["metrics"]) == {
        *("mIoU", "pixel_accuracy", "class_accuracy", "boundary_mIoU"),
    }
    assert len(city["data"]["fingerprint"]) == 64 and city["rules"]["inference"]
    confusion = np.array(city["confusion"])
    assert confusion.sum() == 3 * (SIZE[0] - 2) * SIZE[1]  # each image once, without the ignored
    assert confusion.sum(1)[[0, 10, 13]].all() and not confusion.sum(1)[[1, 2, 18]].any()
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    assert city["metrics"]["mIoU"] == pytest.approx((hits[union > 0] / union[union > 0]).mean())
    summary = first["summary"]
    assert summary["gap"]["city"] == pytest.approx(
        first["domains"]["game"]["metrics"]["mIoU"] - city["metrics"]["mIoU"]
    )
    averages = json.loads((tmp_path / "results.json").read_text())["averages"]
    assert averages[0]["metrics"]["city"]["mIoU"]["n"] == 2
    manifest = json.loads((tmp_path / "manifest_test.json").read_text())
    assert manifest["data"]["city"]["num_images"] == 3
    assert (tmp_path / "confusion_run_s1_iter_2_city.png").stat().st_size > 1000
    assert len(list((tmp_path / "pictures/run_s0_iter_2_city").glob("*.jpg"))) >= 1
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg") >= 4 and "± " in page

    # the tables again, from the file, beside a test with another rule
    code, out, err = tool(
        "test_seg", streets / "toy.py", runs[0] / "iter_2.pth", "--target",
        f"town={streets / 'city'}", "--results", tmp_path / "results.json",
        "--work-dir", tmp_path / "b",
    )  # fmt: skip
    assert code == 0, err
    assert "town" in out and "run_s0/iter_2 (2)" in out
    assert "not comparable in their means" in out
    town = results(tmp_path / "b")[-1]["domains"]["town"]
    assert town["metrics"]["mIoU"] == city["metrics"]["mIoU"]
    code, out, err = tool(
        "test_seg", "--results", tmp_path / "results.json", "--work-dir", tmp_path / "c", "--html"
    )
    assert code == 0 and "(n=2)" in out and (tmp_path / "c/report.html").exists(), err


def test_a_checkpoint_chosen_on_a_target_is_announced(streets, runs, tool, tmp_path) -> None:
    (best,) = runs[0].glob("best_city_mIoU_iter_*.pth")
    renamed = tmp_path / "model_final.pth"
    renamed.write_bytes(best.read_bytes())
    for path in (best, renamed):
        code, out, err = tool("test_seg", streets / "toy.py", path, "--work-dir", tmp_path / "t")
        assert code == 0, err
        assert "was chosen as the best on city, a target domain (the source is game)" in out
        assert results(tmp_path / "t")[0]["warnings"]


def test_protocols_are_stamped_with_what_really_differs(streets, runs, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_seg", streets / "toy.py", runs[0] / "iter_1.pth", "--work-dir", tmp_path,
        "--cfg-options", "protocol=robustnet-r50", "train_cfg.max_iters=40000",
    )  # fmt: skip
    assert code == 0, err
    stamp = results(tmp_path)[0]["protocol"]
    assert stamp["name"] == "robustnet-r50"
    for line in (
        "the checkpoint was trained under no protocol",
        "iterations 2 instead of 40,000",  # the checkpoint's, not the config's
        "batch size 2 instead of 16",
        "the checkpoint of iteration 1 of 2, not the last",
    ):
        assert line in stamp["deviations"]
    assert "protocol: robustnet-r50 with" in out
    code, _, err = tool(
        "test_seg", streets / "toy.py", runs[0] / "iter_1.pth", "--work-dir", tmp_path,
        "--cfg-options", "protocol=robustnet-r5",
    )  # fmt: skip
    assert code == 1 and "did you mean robustnet-r50" in err


def test_weights_of_unknown_training_are_no_clean_result(streets, runs, tool, tmp_path) -> None:
    import torch

    from backbones.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(runs[0] / "iter_2.pth")
    torch.save(checkpoint["state_dict"], tmp_path / "bare.pth")
    code, _, err = tool(
        "test_seg", streets / "toy.py", tmp_path / "bare.pth", "--work-dir", tmp_path,
        "--cfg-options", "protocol=robustnet-r50",
    )  # fmt: skip
    assert code == 0, err
    deviations = results(tmp_path)[0]["protocol"]["deviations"]
    assert deviations[0] == "the checkpoint does not say how it was trained"
    assert deviations[-1] == "iteration of the checkpoint unknown"
    assert not any("batch size" in line for line in deviations)  # the config's, not the weights'


def test_corruptions(streets, runs, tool, tmp_path) -> None:
    code, out, err = tool(
        "test_seg", streets / "toy.py", runs[0] / "iter_2.pth", "--work-dir", tmp_path,
        "--corruptions", "gaussian_noise", "--severities", 5,
    )  # fmt: skip
    assert code == 0, err
    assert "gaussian" in out
    found = json.loads((tmp_path / "robustness.json").read_text())
    clean = {r["domain"]: r["metrics"]["mIoU"] for r in found["rows"] if r["severity"] == 0}
    assert clean == {n: d["metrics"]["mIoU"] for n, d in results(tmp_path)[0]["domains"].items()}
    noisy = {r["domain"]: r["metrics"]["mIoU"] for r in found["rows"] if r["severity"] == 5}
    assert noisy.keys() == clean.keys() and noisy != clean
    assert list(tmp_path.glob("robustness_*.png"))


def test_mistakes_end_in_one_line(streets, runs, tool, tmp_path) -> None:
    cut = tmp_path / "cut.pth"
    cut.write_bytes((runs[0] / "iter_2.pth").read_bytes()[:3000])
    for arguments, words in (
        ((streets / "toy.py", tmp_path / "absent.pth"), "no checkpoint at"),
        ((streets / "toy.py", cut), "cut.pth"),
        ((streets / "absent.py", cut), "no config at"),
        (("--results", tmp_path / "absent.json"), "no results at"),
        ((streets / "toy.py", runs[0] / "iter_2.pth", "--data", "bdd=/x"), "no domain 'bdd'"),
    ):
        code, _, err = tool("test_seg", *arguments, "--work-dir", tmp_path / "t")
        assert code == 1 and words in err and "Traceback" not in err, err
    for arguments, words in (
        ((), "give CONFIG and CHECKPOINT"),
        ((streets / "toy.py",), "give a CHECKPOINT"),
        ((streets / "toy.py", cut, "--pictures", -1), "expected 0 or more"),
    ):
        code, _, err = tool("test_seg", *arguments)
        assert code == 2 and words in err
