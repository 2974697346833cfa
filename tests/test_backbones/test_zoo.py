from __future__ import annotations

import pytest
import torch

from backbones import create_model, list_models


@pytest.mark.parametrize("name", list_models("*ibn*"))
def test_keys_shapes_and_counts_are_the_authors(name, golden_resnets) -> None:
    with torch.device("meta"):
        model = create_model(name)
    golden = golden_resnets["state_dicts"].get(name)
    if golden is None:  # the authors publish no keys of resnet34_ibn_b and resnet101_ibn_b here
        assert name in ("resnet34_ibn_b", "resnet101_ibn_b")
        golden = {"params": {"resnet34_ibn_b": 21_798_056, "resnet101_ibn_b": 44_550_696}[name]}
    else:
        got = [[key, list(value.shape)] for key, value in model.state_dict().items()]
        assert got == golden["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == golden["params"]


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_plain_nets_have_torchvisions_keys(name) -> None:
    import torchvision

    with torch.device("meta"):
        ours, theirs = create_model(name), getattr(torchvision.models, name)()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


@torch.no_grad()
def test_plain_nets_have_torchvisions_logits() -> None:
    import torchvision

    theirs = torchvision.models.resnet18().eval()
    ours = create_model("resnet18").eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_patterns() -> None:
    assert list_models("resnet50*") == ["resnet50", "resnet50_ibn_a", "resnet50_ibn_b"]
    assert list_models("nothing*") == []


def test_unknown_name_suggests() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'resnet50_ibna'.*resnet50_ibn_a"):
        create_model("resnet50_ibna")


def test_overrides_and_weights(tmp_path) -> None:
    model = create_model("resnet18_ibn_a", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    again = create_model("resnet18_ibn_a", num_classes=3, weights=tmp_path / "weights.pth")
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    headless = create_model(
        "resnet18_ibn_a", num_classes=0, weights=tmp_path / "weights.pth", last_stride=1
    )
    assert torch.equal(headless.conv1.weight, model.conv1.weight)
    assert headless.reductions[-1] == 16
