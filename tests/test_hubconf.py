"""torch.hub sees the networks of IBN-Net in a clone of this repository."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backbones import create_model
from backbones.download import OFFICIAL_WEIGHTS, OfficialWeights

ROOT = Path(__file__).parent.parent
NAMES = {
    *(f"resnet{depth}_ibn_{kind}" for depth in (18, 34, 50, 101, 152) for kind in "ab"),
    *(f"{family}{depth}_ibn_a" for family in ("resnext", "se_resnet") for depth in (50, 101, 152)),
    *(f"densenet{depth}_ibn_a" for depth in (121, 161, 169, 201)),
}


def load(name, **arguments):
    return torch.hub.load(str(ROOT), name, source="local", **arguments)


@pytest.fixture(scope="module")
def hubconf():
    spec = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_entry_points_are_exactly_the_networks(hubconf):
    """torch.hub lists every callable whose name has no underscore in front."""
    listed = {name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"}
    assert listed == NAMES


def test_all_published_networks_are_entry_points():
    assert set(OFFICIAL_WEIGHTS) <= NAMES


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_ibn_b", "densenet121_ibn_a"])
def test_a_network(name):
    model = load(name, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 7)
    assert list(model.state_dict()) == list(create_model(name, num_classes=7).state_dict())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_entry_point_builds(name):
    with torch.device("meta"):
        model = load(name)
    assert [tuple(p.shape) for p in model.parameters()][-1] == (1000,)


def test_help_says_whether_there_are_published_weights(hubconf):
    assert "there are none for this network" in hubconf.resnet152_ibn_a.__doc__
    assert "there are none for this network" not in hubconf.resnet50_ibn_a.__doc__


def test_pretrained_takes_the_official_file(tmp_path, monkeypatch):
    given = create_model("resnet18_ibn_a").state_dict()
    path = tmp_path / "resnet18_ibn_a-published.pth"
    torch.save(given, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    entry = OfficialWeights(path.as_uri(), digest)
    monkeypatch.setitem(OFFICIAL_WEIGHTS, "resnet18_ibn_a", entry)
    monkeypatch.setenv("REIDSEG_CACHE", str(tmp_path / "cache"))
    model = load("resnet18_ibn_a", pretrained=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, given[key]), key
    assert (tmp_path / "cache" / path.name).exists()


def test_no_published_weights():
    with pytest.raises(ValueError, match="no official weights are known for 'resnet152_ibn_a'"):
        load("resnet152_ibn_a", pretrained=True)


def test_from_another_folder(tmp_path):
    """A fresh process that knows nothing of this repository but its path."""
    program = (
        "import torch; model = torch.hub.load("
        f"{str(ROOT)!r}, 'resnet18_ibn_a', source='local', num_classes=3); "
        "print(model(torch.zeros(2, 3, 32, 32)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().endswith("torch.Size([2, 3])")
