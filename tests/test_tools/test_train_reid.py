from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_reid.test_datasets.made_trees import make_msmt17, make_vehicleid

ROOT = Path(__file__).parent.parent.parent


def weights(path: Path) -> dict[str, torch.Tensor]:
    from backbones.weights import read_checkpoint

    return read_checkpoint(path)["state_dict"]


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def result(folder: Path) -> dict[str, Any]:
    """The only model of ``results.json``."""
    (found,) = json.loads((folder / "results.json").read_text())["results"]
    return found


def numbers(folder: Path) -> dict[str, dict[str, float]]:
    """Domain -> metric -> value."""
    return {name: domain["metrics"] for name, domain in result(folder)["domains"].items()}


def test_a_run_leaves_what_is_needed_to_believe_it(world, trained) -> None:
    manifest = json.loads((trained.parent / "manifest_train.json").read_text())
    data = manifest["data"]["train"]
    assert manifest["seed"] == 0 and data["num_identities"] == 6 and len(data["fingerprint"]) == 64
    assert "reid.Embedder" in manifest["config"]
    assert all(value.isfinite().all() for value in weights(trained).values())


def test_output_names_protocol_and_next_step(world, tool) -> None:
    code, out, err = tool(
        "train_reid", world / "tiny.py", "--epochs", 1, "--work-dir", world / "one",
        "--seed", 7, "--target", f"evening={world / 'dusk'}",
    )  # fmt: skip
    assert code == 0, err
    assert "seed 7" in out and "mAP" in out and "evening" in out
    assert "AP rule 'step'" in out and "valid of" in out
    # the next command evaluates the held-out part of the training data, not all of it
    command = next(line for line in out.splitlines() if line.startswith("next: ")).split()[3:]
    code, _, err = tool("test_reid", *command, "--work-dir", world / "one_again")
    assert code == 0, err
    assert numbers(world / "one") == numbers(world / "one_again")
    assert result(world / "one")["seed"] == 7
    assert (world / "one" / "epoch_1.pth").is_file()


def test_the_number_of_workers_changes_nothing_and_all_end(world, trained) -> None:
    command = [sys.executable, "tools/train_reid.py", world / "tiny_workers.py"]
    command += ["--work-dir", world / "workers"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert_same_weights(world / "workers" / "epoch_2.pth", trained)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_equals_uninterrupted(world, trained, tool, number) -> None:
    """The signal goes to the whole group, the loading processes too, as Ctrl-C does."""
    folder = world / f"stopped_{number}"
    config = world / "tiny_workers.py"
    command = [sys.executable, "tools/train_reid.py", config, "--work-dir", folder]
    log = world / f"stopped_{number}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, env=environment(), start_new_session=True
        )
        deadline = time.monotonic() + 120
        while "Epoch(train)" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(120) == 128 + number, log.read_text()
    stopped = list(folder.glob("stopped_iter_*.pth"))
    assert len(stopped) == 1 and "--resume" in log.read_text()
    code, _, err = tool("train_reid", world / "tiny.py", "--work-dir", folder, "--resume")
    assert code == 0, err
    assert_same_weights(folder / "epoch_2.pth", trained)


def test_two_processes(world) -> None:
    """gloo on the CPU: training runs, and the evaluation gathers each image once."""
    folder = world / "two"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "tools/train_reid.py", str(world / "tiny.py"), "--work-dir", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("after 2 epochs") == 1  # only one process reports
    in_training = numbers(folder)

    # the same weights, evaluated by one process, give the same numbers
    values = []
    for prefix in ([sys.executable], command[:5]):
        out = folder / f"test_{len(prefix)}"
        arguments = [world / "tiny.py", folder / "epoch_2.pth", "--work-dir", out]
        done = subprocess.run(
            [*prefix, "tools/test_reid.py", *arguments],
            cwd=ROOT, capture_output=True, text=True, env=environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        values.append(numbers(out))
    for domain in ("noon", "dusk"):
        assert values[0][domain] == pytest.approx(values[1][domain], abs=1e-6)
        # what training printed is what the saved weights give, not a mix of two networks
        assert values[0][domain] == pytest.approx(in_training[domain], abs=1e-6)


def test_training_on_two_sets_together(world, tool) -> None:
    """One model of all identities, tested on the held-out ones of each set, and elsewhere."""
    folder = world / "joint"
    code, out, err = tool(
        "train_reid", world / "tiny.py", "--epochs", 1, "--work-dir", folder,
        "--data", world / "noon", f"evening={world / 'dusk'}",
        "--target", f"again=market1501[camera=None]:{world / 'noon'}",
    )  # fmt: skip
    assert code == 0, err
    manifest = json.loads((folder / "manifest_train.json").read_text())["data"]
    assert list(manifest) == ["train", "noon", "evening", "again"]
    train = manifest["train"]
    assert (train["num_identities"], train["num_cameras"], train["num_sets"]) == (12, 4, 2)
    for name in ("noon", "evening"):  # each set is named with what identifies it
        assert train["sets"][name]["fingerprint"] == manifest[name]["fingerprint"]
        assert f"{name}: " in out
    metrics = numbers(folder)
    assert set(metrics) == {"noon", "evening", "again"}
    # the run's own config tests the same, and knows what it was trained on
    code, out, err = tool(
        "test_reid", folder / "tiny.py", folder / "epoch_1.pth", "--work-dir", folder / "tested"
    )
    assert code == 0, err
    tested = numbers(folder / "tested")
    assert tested["noon"] == metrics["noon"] and tested["evening"] == metrics["evening"]


def test_a_protocol_of_several_draws(world, tool, tmp_path) -> None:
    vehicles = make_vehicleid(tmp_path / "vehicles")
    code, out, err = tool(
        "train_reid", world / "tiny.py", "--epochs", 1, "--work-dir", tmp_path / "run",
        "--data", f"vehicleid[draws=3]:{vehicles}",
    )  # fmt: skip
    assert code == 0, err
    assert "mean of 3 draws (seed 0)" in out
    data = json.loads((tmp_path / "run" / "manifest_train.json").read_text())["data"]
    assert data["vehicles"]["num_trials"] == 3 and "trials" not in data["vehicles"]


def test_data_without_a_test_split_needs_a_target(world, tool, tmp_path) -> None:
    msmt = f"msmt17[train=all]:{make_msmt17(tmp_path / 'msmt')}"
    arguments = ["train_reid", world / "tiny.py", "--epochs", 1, "--work-dir", tmp_path / "run"]
    code, _, err = tool(*arguments, "--data", msmt)
    assert code == 1 and "msmt has no test split" in err and "--target PATH" in err
    code, out, err = tool(*arguments, "--data", msmt, "--target", world / "dusk")
    assert code == 0, err
    assert "msmt has no test split: trained on, and not evaluated on" in out
    data = json.loads((tmp_path / "run" / "manifest_train.json").read_text())["data"]
    assert list(data) == ["train", "dusk"] and data["train"]["num_identities"] == 5


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/no/such/data"], "no data at /no/such/data"),
        (["--data", "duke:{world}/noon"], "a layout of market1501, folder, csv"),
        (["--data", "{world}/noon", "noon={world}/dusk"], "two data sets are called 'noon'"),
        (["--data", "a={world}/noon", "b={world}/noon"], "a and b share 36 images"),
        (["--data", "market1501[size=large]:{world}/noon"], "takes no option 'size'"),
        (["--cfg-options", "model.type=reid.Embeder"], "did you mean reid.Embedder"),
        (["--cfg-options", "model.backbone.type=backbones.ResNext"], "unknown type"),
        (["--cfg-options", "model.poling=gem"], "takes no argument 'poling'"),
        (["--cfg-options", "optim_wraper.lr=1"], "did you mean 'optim_wrapper'"),
        (["--cfg-options", "modle.pooling=gem"], "did you mean 'model'"),
        (["--cfg-options", "data_root=elsewhere"], "use --data"),
        (["--cfg-options", "max_epochs=5"], "use --epochs"),
        (["--target", "{world}/noon", "other={world}/dusk"], "'noon' is the name of the training"),
        (["--target", "a={world}/noon", "a={world}/dusk"], "two data sets are called 'a'"),
        (["--epochs", "0"], "expected 1 or more"),
        (["--cfg-options", "train_dataloader.batch_size=9"], "set batch_size=8"),
        (["--resume", "nowhere.pth"], "no checkpoint at nowhere.pth"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_mistakes_end_in_one_clear_message(world, tool, tmp_path, arguments, message) -> None:
    filled = [str(a).format(world=world) for a in arguments]
    code, _, err = tool("train_reid", world / "tiny.py", "--work-dir", tmp_path, *filled)
    assert code == 1
    error = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0], err
    assert "Traceback" not in err


def test_no_config(tool) -> None:
    code, _, err = tool("train_reid", "configs/reid/nothing.py")
    assert code == 1 and "no config at" in err


def test_a_tree_one_level_too_deep_and_an_empty_one(world, tool, tmp_path) -> None:
    shutil.copytree(world / "noon", tmp_path / "deep" / "inner")
    code, _, err = tool(
        "train_reid", world / "tiny.py", "--data", f"market1501:{tmp_path / 'deep'}"
    )
    assert code == 1 and "inner" in err
    (tmp_path / "empty").mkdir()
    code, _, err = tool("train_reid", world / "tiny.py", "--data", tmp_path / "empty")
    assert code == 1 and "empty" in err and "Traceback" not in err


@pytest.mark.parametrize("config", ["tiny.py", "tiny_workers.py"])
def test_a_truncated_image_is_named(world, tool, tmp_path, config) -> None:
    shutil.copytree(world / "noon", tmp_path / "noon")
    for image in (tmp_path / "noon" / "bounding_box_train").iterdir():
        image.write_bytes(image.read_bytes()[:200])
    code, _, err = tool(
        "train_reid", world / config, "--data", tmp_path / "noon", "--work-dir", tmp_path / "run"
    )
    error = err.splitlines()[-1]
    assert code == 1 and error.startswith("error: ") and "bounding_box_train" in error, err
    assert "Traceback" not in error


def test_a_nan_loss_names_the_images(world, tool, tmp_path) -> None:
    code, _, err = tool(
        "train_reid", world / "tiny.py", "--work-dir", tmp_path,
        "--cfg-options", "optim_wrapper.optimizer.lr=1e30",
    )  # fmt: skip
    assert code == 1 and "not finite at iteration" in err
    report = json.loads(next(tmp_path.glob("nonfinite_loss_*.json")).read_text())
    assert all(Path(path).is_file() for path in report["paths"]) and len(report["paths"]) == 8


def test_resuming_from_another_architecture(world, trained, tool, tmp_path) -> None:
    code, _, err = tool(
        "train_reid", world / "tiny.py", "--work-dir", tmp_path, "--resume", trained,
        "--cfg-options", "model.backbone.ibn=b",
    )  # fmt: skip
    assert code == 1 and "IBN" in err and "Traceback" not in err


def test_full_disk(world, tool, tmp_path, monkeypatch) -> None:
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mmengine.runner.runner.save_checkpoint", full)
    code, _, err = tool("train_reid", world / "tiny.py", "--work-dir", tmp_path / "run")
    assert code == 1 and "No space left" in err and "--resume" in err
    assert not list((tmp_path / "run").glob("*.pth"))
