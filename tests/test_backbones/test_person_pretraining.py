"""Files of pretrainings for re-identification: LUPerson, LUPerson-NL and CION.

Made here with the names that the authors' public code writes (lup_moco, PNL, CION_Pretrain).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones import ResNet, load_weights
from backbones.weights import LoadReport, WeightsMismatchError

State = dict[str, Tensor]


def network(ibn: Any = None, seed: int = 0) -> ResNet:
    torch.manual_seed(seed)
    model = ResNet(18, ibn=ibn, out_indices=(3,), last_stride=1)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1)
    return model


def below(prefix: str, *states: State) -> State:
    return {f"{prefix}{key}": value for state in states for key, value in state.items()}


def linear(name: str, outputs: int, inputs: int = 512) -> State:
    return below(f"{name}.", nn.Linear(inputs, outputs).state_dict())


def luperson_raw(student: State, other: State) -> Any:
    """MoCo v2 of torchvision's network, whose fc is a projection of two layers."""
    heads = {**linear("fc.0", 512), **linear("fc.2", 128)}
    state = {
        **below("module.encoder_q.", student, heads),
        **below("module.encoder_k.", other, heads),
        "module.queue": torch.ones(128, 4),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    return {"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}


def luperson_nl(student: State, other: State) -> Any:
    heads = {**linear("classifier", 9), **linear("fc1", 512), **linear("fc2", 128)}
    heads |= linear("embed_fc", 64)
    state = {
        **below("module.encoder_q.", student, heads),
        **below("module.encoder_k.", other, heads),
        "module.queue": torch.ones(128, 4),
        "module.queue_id": torch.ones(4, 1, dtype=torch.long),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
        "module.prototypes": torch.ones(9, 128),
    }
    return {"epoch": 90, "state_dict": state}


def cion(student: State, other: State) -> Any:
    """The teacher is the network that is used; both are wrapped, with DINO's head beside."""
    head = {**linear("head.mlp.0", 32), "head.last_layer.weight_g": torch.ones(40, 1)}
    head["head.last_layer.weight_v"] = torch.ones(40, 16)
    return {
        "student": below("module.", below("backbone.", other), head),
        "teacher": below("module.", below("backbone.", student), head),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="resnet18"),
        "Loss": {"center": torch.ones(1, 40)},
    }


def luperson(student: State, other: State) -> Any:
    return student


MADE = [luperson, luperson_raw, luperson_nl, cion]


def saved(make: Any, folder: Path, ibn: Any = None) -> tuple[State, Path]:
    wanted, other = network(ibn, 1).state_dict(), network(ibn, 2).state_dict()
    path = folder / f"{make.__name__}.pth"
    torch.save(make(wanted, other), path)
    return wanted, path


@pytest.mark.parametrize("ibn", [None, "a"])
@pytest.mark.parametrize("make", MADE)
def test_the_backbone_is_taken_and_the_rest_is_named(make, ibn, tmp_path) -> None:
    wanted, path = saved(make, tmp_path, ibn)
    model = network(ibn)
    report = load_weights(model, path)
    assert report.ok and len(report.loaded) == len(wanted)
    for key, value in model.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def report_of(make: Any, folder: Path) -> LoadReport:
    return load_weights(network(), saved(make, folder)[1])


def test_reports(tmp_path) -> None:
    text = str(report_of(luperson_raw, tmp_path))
    assert "the query encoder of MoCo" in text
    assert "projection heads of a pretraining: module.encoder_q.fc.0.weight" in text
    report = report_of(luperson_nl, tmp_path)
    assert "6 left aside, projection heads" in str(report)
    assert set(report.tolerated.values()) == {"the model has no classifier"}
    report = report_of(cion, tmp_path)
    assert report.layout[0] == "inside 'teacher'"
    assert "module.head.mlp.0.weight" in report.dropped


def test_another_network_is_refused_and_named(tmp_path) -> None:
    _, path = saved(cion, tmp_path, "a")
    with pytest.raises(WeightsMismatchError, match="looks like a ResNet-18 with IBN-a"):
        load_weights(network(), path)


def test_a_model_with_a_classifier_is_told_that_a_projection_is_none(tmp_path) -> None:
    _, path = saved(luperson_raw, tmp_path)
    with pytest.raises(WeightsMismatchError, match="the checkpoint has no classifier"):
        load_weights(ResNet(18, num_classes=3), path)


def test_into_a_network_with_non_local_blocks(tmp_path) -> None:
    _, path = saved(luperson_nl, tmp_path)
    model = ResNet(18, non_local=(0, 1, 1, 0), out_indices=(3,))
    report = load_weights(model, path)
    assert "non-local blocks stay as they are" in report.tolerated.values()
