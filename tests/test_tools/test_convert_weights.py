"""The tool reads a real file, writes another one, and says what it did."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from backbones import create_model
from backbones.checkpoint import read_checkpoint
from backbones.layouts import LAYOUTS
from backbones.weights import load_weights

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return create_model("resnet18_sn", num_classes=5)


@pytest.fixture
def published(tmp_path, model):
    """A checkpoint as SN's authors publish them."""
    state = {
        f"module.{key.replace('bn1.', 'sn1.').replace('bn2.', 'sn2.')}": value
        for key, value in model.state_dict().items()
    }
    path = tmp_path / "resnetv1sn18.pth"
    torch.save({"epoch": 120, "state_dict": state, "best_prec1": 71.0}, path)
    return path


def assert_same(path, model):
    other = create_model("resnet18_sn", num_classes=5)
    report = load_weights(other, path)
    assert not (report.missing or report.unexpected)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_to_ours_and_back(tool, tmp_path, published, model):
    ours, theirs = tmp_path / "new" / "ours.safetensors", tmp_path / "theirs.pth"
    code, out, err = tool("convert_weights", published, ours)
    assert (code, err) == (0, "")
    assert "a ResNet-18 with switchable norm, to ours" in out
    rows = [line.split("│")[1:-1] for line in out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert ["module.layer*.*.sn1.weight", "layer*.*.bn1.weight", "8"] in cells
    assert "recognised: inside 'state_dict', 'module.' removed (DataParallel)" in out
    assert set(read_checkpoint(ours)) == set(model.state_dict())
    assert_same(ours, model)

    code, _, err = tool("convert_weights", ours, theirs, "--to", "sn")
    assert (code, err) == (0, "")
    original, again = read_checkpoint(published)["state_dict"], read_checkpoint(theirs)
    assert list(again) == ["state_dict"]
    assert set(again["state_dict"]) == set(original)
    for key, value in original.items():
        assert torch.equal(again["state_dict"][key], value), key


def test_dry_run_writes_nothing(tool, tmp_path, published):
    before = sorted(tmp_path.iterdir())
    target = tmp_path / "new" / "w.pth"
    code, out, _ = tool("convert_weights", published, target, "--dry-run", "--all")
    assert code == 0
    assert "module.layer4.1.sn2.bias" in out
    assert "dry run: nothing written" in out
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_left_out_is_said(tool, tmp_path, published):
    code, out, _ = tool("convert_weights", published, tmp_path / "w.pth", "--to", "mmseg")
    assert code == 0
    assert "2 left out (this layout has no classifier): module.fc.weight, module.fc.bias" in out
    assert list(read_checkpoint(tmp_path / "w.pth")) == ["state_dict"]


def test_an_existing_file_is_replaced_only_if_asked(tool, tmp_path, published, model):
    target = tmp_path / "w.pth"
    target.write_bytes(b"precious")
    code, _, err = tool("convert_weights", published, target)
    assert code == 1
    assert "exists already" in err
    assert target.read_bytes() == b"precious"
    code, _, _ = tool("convert_weights", published, target, "--overwrite")
    assert code == 0
    assert_same(target, model)


def test_a_failure_leaves_what_was_there(tool, tmp_path, published, monkeypatch):
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"precious")
    before = sorted(tmp_path.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.atomic.replace_file", full)
    code, _, err = tool("convert_weights", published, target, "--overwrite")
    assert code == 1
    assert "No space left" in err
    assert target.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["w.pth", "--to", "torchvision"], "it has no switchable norm"),
        (["w.bin"], "OUT must end in .pth or .safetensors, got 'w.bin'"),
    ],
)
def test_mistakes_end_in_one_line(tool, tmp_path, published, arguments, text):
    name, *rest = arguments
    code, _, err = tool("convert_weights", published, tmp_path / name, *rest)
    assert code == 1
    assert text in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / name).exists()


def test_a_missing_file(tool, tmp_path):
    code, _, err = tool("convert_weights", tmp_path / "none.pth", tmp_path / "w.pth")
    assert code == 1
    assert "no checkpoint at" in err


def test_the_choices_are_the_layouts():
    tree = ast.parse((ROOT / "tools/convert_weights.py").read_text())
    (targets,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TARGETS"
    )
    assert eval(ast.unparse(targets)) == tuple(LAYOUTS)
