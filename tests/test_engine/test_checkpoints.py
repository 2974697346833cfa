from __future__ import annotations

import os
from pathlib import Path

import torch

from engine.checkpoints import latest_checkpoint, row_names, without_training_only


def test_latest_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    names = ["best_x.pth", ".epoch_9.pth.partial", "stopped_iter_7.pth", "epoch_1.pth"]
    for age, name in enumerate(names):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert latest_checkpoint(tmp_path).name == "stopped_iter_7.pth"


def test_what_only_training_needs_is_left_out() -> None:
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1)})
    model.training_only = ("classifier.", "net.")
    weights = {"net.weight": 0, "classifier.weight": 1, "other": 2}
    assert without_training_only(model, {"state_dict": weights}) == {"net.weight": 0, "other": 2}


def test_torch_s_notes_on_layers_stay() -> None:
    weights = torch.nn.Linear(1, 1).state_dict()
    weights._metadata[""]["batches_added"] = 3
    kept = without_training_only(torch.nn.Linear(1, 1), {"state_dict": weights})
    assert kept._metadata[""]["batches_added"] == 3


def test_row_names_are_short_and_differ() -> None:
    assert row_names(["/runs/a/epoch_1.pth", "/runs/b/epoch_1.pth"]) == ["a/epoch_1", "b/epoch_1"]
    assert row_names(["x/a/e.pth", "y/a/e.pth"]) == ["x/a/e", "y/a/e"]
