from __future__ import annotations

import errno
import os
import pickle
import shutil

import pytest
import torch

from backbones.weights import CheckpointError


def test_train_writes_whole_checkpoints_and_nothing_else(make_runner, tmp_path) -> None:
    make_runner().train()
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"epoch_1.pth", "epoch_2.pth", "last_checkpoint", "manifest_train.json"} <= names
    assert not any("partial" in name for name in names)


def test_resume_continues_everything(make_runner, tmp_path) -> None:
    whole = make_runner("whole")
    whole.train()
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "epoch_1.pth", tmp_path / "parts")
    second = make_runner("parts", resume=True)
    second.train()
    assert second.recorder.losses == whole.recorder.losses[6:]
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()


def test_resume_without_a_checkpoint_starts_from_scratch(make_runner) -> None:
    whole, resumed = make_runner("whole"), make_runner("none", resume=True)
    whole.train(), resumed.train()
    assert resumed.recorder.losses == whole.recorder.losses


def test_full_disk_keeps_the_last_checkpoint(make_runner, tmp_path, monkeypatch) -> None:
    runner = make_runner()
    runner.train()
    before = (tmp_path / "run" / "epoch_2.pth").read_bytes()

    def full(*_: object, **__: object) -> None:
        (tmp_path / "run" / ".epoch_2.pth.partial").write_bytes(b"cut off")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mmengine.runner.runner.save_checkpoint", full)
    with pytest.raises(OSError, match=r"No space left.*epoch_2\.pth is intact.*--resume") as caught:
        runner.save_checkpoint(str(tmp_path / "run"), "epoch_2.pth")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "run" / "epoch_2.pth").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*partial"))


def test_checkpoint_of_another_architecture_changes_nothing(make_runner, tmp_path) -> None:
    torch.save({"state_dict": {"linear.weight": torch.zeros(3, 4)}}, tmp_path / "other.pth")
    runner = make_runner()
    before = runner.model.linear.weight.clone()
    with pytest.raises(CheckpointError, match=r"linear\.weight"):
        runner.load_checkpoint(str(tmp_path / "other.pth"))
    assert torch.equal(runner.model.linear.weight, before)


def test_truncated_checkpoint(make_runner, tmp_path) -> None:
    make_runner().train()
    good = (tmp_path / "run" / "epoch_1.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(good[: len(good) // 2])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        make_runner("second").load_checkpoint(str(tmp_path / "cut.pth"))


def test_code_in_a_pickle_is_not_run(make_runner, tmp_path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb_zip.pth")
    runner = make_runner()
    for name in ("bomb.pth", "bomb_zip.pth"):
        with pytest.raises(CheckpointError):
            runner.load_checkpoint(str(tmp_path / name))
        runner._load_from, runner._resume, runner._has_loaded = str(tmp_path / name), True, False
        with pytest.raises(CheckpointError):
            runner.load_or_resume()
    assert not (tmp_path / "executed").exists()


def test_a_config_in_a_checkpoint_is_not_executed(make_runner, tmp_path) -> None:
    make_runner().train()
    checkpoint = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=False)
    checkpoint["meta"]["config"] = f"__import__('os').mkdir({str(tmp_path / 'executed')!r})"
    torch.save(checkpoint, tmp_path / "run" / "epoch_1.pth")
    runner = make_runner("second", resume=True, load_from=str(tmp_path / "run" / "epoch_1.pth"))
    runner.train()
    assert not (tmp_path / "executed").exists()
    assert len(runner.recorder.losses) == 6
