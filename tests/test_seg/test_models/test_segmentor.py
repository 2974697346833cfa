from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

pytest.importorskip("mmseg")

from mmseg.models.segmentors import EncoderDecoder

from backbones.norm import BN
from seg.models import Segmentor
from seg.registry import MODELS

ISW = {
    "type": "seg.InstanceSelectiveWhitening",
    "features": ("bn1", "layer1.-1.IN"),
    "start": 1,
    "statistics_images": 2,
}
MIXSTYLE = {"type": "seg.MixStyle", "after": ("layer1", "layer2"), "p": 1.0, "alpha": 1.0}


def stock(model: Segmentor) -> EncoderDecoder:
    """mmseg's own way to predict, with the weights of ``model``."""
    twin = copy.deepcopy(model)
    twin.__class__ = EncoderDecoder
    return twin.eval()


def named_hooks(model: torch.nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if module._forward_hooks]


# ------------------------------------------------------------------------------------- prediction


@pytest.mark.parametrize(
    "test_cfg",
    [None, {"mode": "whole"}, {"mode": "slide", "crop_size": (32, 40), "stride": (20, 24)}],
)
@pytest.mark.parametrize("align_corners", [False, True])
def test_predicts_what_mmseg_predicts(segmentor, samples, test_cfg, align_corners) -> None:
    head = segmentor().decode_head  # only to know its arguments
    model = segmentor(
        test_cfg=test_cfg,
        decode_head={
            "type": type(head).__name__,
            "channels": 8,
            "num_convs": 1,
            "concat_input": False,
            "num_classes": 5,
            "norm_cfg": {"type": "BN"},
            "align_corners": align_corners,
        },
    ).eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    x = torch.randn(2, 3, 64, 72)
    batch = samples(2, 64, 72, ori_shape=(50, 80), padding_size=[2, 6, 0, 4])
    with torch.no_grad():
        expected = stock(model).predict(x, copy.deepcopy(batch))
        found = model.predict(x, batch)
    for ours, theirs in zip(found, expected, strict=True):
        labels = ours.pred_sem_seg.data
        assert labels.shape == (1, 50, 80)
        assert labels.dtype == torch.uint8
        assert "seg_logits" not in ours
        assert (labels == theirs.pred_sem_seg.data).float().mean() > 0.999


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flipped_images_are_turned_back(segmentor, samples, direction: str) -> None:
    model = segmentor().eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    x = torch.randn(1, 3, 64, 64)
    batch = samples(1, 64, 64, flip=True, flip_direction=direction)
    with torch.no_grad():
        expected = stock(model).predict(x, copy.deepcopy(batch))[0].pred_sem_seg.data
        assert (model.predict(x, batch)[0].pred_sem_seg.data == expected).float().mean() > 0.999


def test_logits_are_kept_on_demand(segmentor, samples) -> None:
    model = segmentor(test_cfg={"mode": "whole", "keep_logits": True}).eval()
    x, batch = torch.randn(1, 3, 64, 64), samples(1, 64, 64, ori_shape=(48, 40))
    with torch.no_grad():
        (expected,) = stock(model).predict(x, copy.deepcopy(batch))
        (found,) = model.predict(x, batch)
    assert found.seg_logits.data.shape == (5, 48, 40)
    assert torch.allclose(found.seg_logits.data, expected.seg_logits.data, atol=1e-5)


def test_without_samples_labels_have_the_size_of_the_image(segmentor) -> None:
    (found,) = segmentor().eval().predict(torch.randn(1, 3, 33, 47))
    assert found.pred_sem_seg.data.shape == (1, 33, 47)


def test_logits_at_the_resolution_of_the_head(segmentor) -> None:
    model = segmentor().eval()
    x = torch.randn(2, 3, 64, 96)
    assert model.logits(x).shape == (2, 5, 2, 3)
    assert torch.equal(model.logits(x), model(x, mode="tensor"))


def test_a_mistake_in_test_cfg_is_named(segmentor) -> None:
    model = segmentor(test_cfg={"mode": "slide"}).eval()
    with pytest.raises(ValueError, match="crop_size"):
        model.predict(torch.randn(1, 3, 64, 64))


# ------------------------------------------------------------------------------------------ heads


def test_wrong_channels_are_refused(segmentor) -> None:
    head = {"type": "FCNHead", "in_channels": 2048, "channels": 8, "num_classes": 5}
    with pytest.raises(ValueError, match=r"decode_head \(FCNHead\).*in_channels=512"):
        segmentor(decode_head=head)
    with pytest.raises(ValueError, match=r"auxiliary_head \(FCNHead\).*in_channels=512"):
        segmentor(auxiliary_head=head)


def test_several_auxiliary_heads(segmentor, samples) -> None:
    heads = [
        {"type": "FCNHead", "in_index": i, "channels": 4, "num_convs": 1, "concat_input": False}
        | {"num_classes": 5, "norm_cfg": {"type": "BN"}}
        for i in (1, 2)
    ]
    model = segmentor(auxiliary_head=heads)
    assert [h.in_channels for h in model.auxiliary_head] == [128, 256]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))
    assert {"decode.loss_ce", "aux_0.loss_ce", "aux_1.loss_ce"} <= set(losses)


def test_a_neck_decides_what_heads_get(segmentor) -> None:
    neck = {"type": "FPN", "in_channels": [64, 128, 256, 512], "out_channels": 16, "num_outs": 4}
    head = {"type": "FPNHead", "in_channels": [16] * 4, "in_index": [0, 1, 2, 3]}
    head |= {"feature_strides": [4, 8, 16, 32], "channels": 8, "num_classes": 5}
    head |= {"norm_cfg": {"type": "BN"}, "input_transform": "multiple_select"}
    head.pop("input_transform")
    model = segmentor(neck=neck, decode_head=head).eval()
    assert model.logits(torch.randn(1, 3, 64, 64)).shape == (1, 5, 16, 16)


@pytest.mark.parametrize("kind", ["backbones.SN", "backbones.IBN", "backbones.BIN", "GN"])
def test_any_norm_in_heads(segmentor, samples, kind: str) -> None:
    norm = {"type": kind} | ({"num_groups": 4} if kind == "GN" else {})
    head = {"type": "FCNHead", "channels": 8, "num_classes": 5, "norm_cfg": norm}
    model = segmentor(decode_head=head)
    assert type(model.decode_head.convs[0].norm).__name__ in (kind.split(".")[-1], "GroupNorm")
    assert model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))["decode.loss_ce"] > 0


def test_batch_norms_of_heads_are_ours_by_the_same_names(segmentor) -> None:
    model = segmentor()
    head = {"type": "FCNHead", "in_channels": 512, "channels": 8, "num_convs": 1}
    head |= {"concat_input": False, "num_classes": 5, "norm_cfg": {"type": "BN"}}
    theirs = MODELS.build(
        {
            "type": "EncoderDecoder",
            "backbone": {"type": "backbones.ResNet", "depth": 18},
            "decode_head": head,
        }
    )
    assert isinstance(model.decode_head.convs[0].bn, BN)
    assert model.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("name", ["PSPHead", "ASPPHead", "seg.DeepLabV3PlusHead"])
def test_pooling_one_image_to_one_value_is_explained(segmentor, samples, name: str) -> None:
    head = {"type": name, "channels": 8, "num_classes": 5, "norm_cfg": {"type": "BN"}}
    if name == "seg.DeepLabV3PlusHead":
        head["c1_in_channels"] = None
    model = segmentor(decode_head=head)
    with pytest.raises(ValueError, match=r"Use a larger batch"):
        model.loss(torch.randn(1, 3, 64, 64), samples(1, 64, 64))
    assert model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))
    assert model.eval().predict(torch.randn(1, 3, 64, 64))


# --------------------------------------------------------------------------------- feature losses


def test_selective_whitening_goes_through_its_phases(segmentor, samples) -> None:
    model = segmentor({"ibn": "b"}, feature_losses=[ISW])
    x, batch = 2 * torch.randn(2, 3, 64, 64), samples(2, 64, 64)
    (isw,) = model.feature_losses
    values = [float(model.loss(x, batch)["loss_isw"]) for _ in range(3)]
    assert values[0] == 0
    assert values[1] > 0  # statistics were taken before this forward pass
    assert isw.is_on
    assert all(0 < int(mask.sum()) < mask.numel() for mask in isw.masks)
    model.loss(x, batch)["loss_isw"].backward()
    assert model.backbone.conv1.weight.grad.ne(0).any()
    assert model.backbone.layer2[0].conv1.weight.grad is None


def test_taking_statistics_moves_nothing_else(segmentor, samples) -> None:
    plain = segmentor({"ibn": "b"})
    model = segmentor({"ibn": "b"}, feature_losses=[ISW | {"start": 0, "statistics_images": 9}])
    model.load_state_dict(plain.state_dict(), strict=False)
    x, batch = torch.randn(2, 3, 64, 64), samples(2, 64, 64)
    a, b = plain.loss(x, batch), model.loss(x, batch)
    assert float(a["decode.loss_ce"]) == float(b["decode.loss_ce"])
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    assert model.training
    assert model.backbone.layer1.training


def test_whitening_sees_the_map_before_the_relu(segmentor, samples) -> None:
    """Of mmseg's backbone, too, whose ReLU overwrites the norm's output."""
    loss = {"type": "seg.InstanceWhitening", "features": "bn1", "weight": 1.0}
    backbone = {"type": "ResNet", "depth": 18}
    head = {"type": "FCNHead", "in_channels": 512, "channels": 8, "num_classes": 5}
    model = Segmentor(
        backbone=backbone, decode_head=head | {"norm_cfg": {"type": "BN"}}, feature_losses=[loss]
    )
    x = torch.randn(2, 3, 64, 64)
    found = model.loss(x, samples(2, 64, 64))["loss_iw"]
    seen = model.backbone.bn1(model.backbone.conv1(x))
    assert seen.min() < 0
    (module,) = model.feature_losses
    assert float(found) == pytest.approx(float(module([module.measure(seen)])), rel=1e-4)
    found.backward()
    assert model.backbone.conv1.weight.grad.ne(0).any()


def test_whitening_under_checkpointing_gives_the_same_gradient(segmentor, samples) -> None:
    head = {"type": "FCNHead", "in_channels": 512, "channels": 8, "num_classes": 5}
    loss = {"type": "seg.InstanceWhitening", "features": ("layer1", "layer2")}
    models = [
        Segmentor(
            backbone={"type": "ResNet", "depth": 18, "with_cp": with_cp, "norm_eval": True},
            decode_head=head,
            feature_losses=[loss],
            style=[MIXSTYLE],
        )
        for with_cp in (False, True)
    ]
    models[1].load_state_dict(models[0].state_dict())
    x, batch = torch.randn(2, 3, 64, 64, requires_grad=True), samples(2, 64, 64)
    for model in models:
        model.train()
        torch.manual_seed(0)
        losses = model.loss(x, batch)
        (losses["loss_iw"] + losses["decode.loss_ce"]).backward()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_hooks_of_losses_last_no_longer_than_the_loss(segmentor, samples) -> None:
    model = segmentor({"ibn": "b"}, feature_losses=[ISW])
    assert named_hooks(model) == []
    model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))
    assert named_hooks(model) == []
    with pytest.raises(ValueError):
        model.loss(torch.randn(2, 3, 64), samples(2, 64, 64))
    assert named_hooks(model) == []


def test_resumed_selective_whitening_goes_on(segmentor, samples, tmp_path) -> None:
    build = lambda: segmentor({"ibn": "b"}, feature_losses=[ISW | {"statistics_images": 4}])  # noqa: E731
    model, x, batch = build(), torch.randn(2, 3, 64, 64), samples(2, 64, 64)
    path = tmp_path / "model.pth"

    def go_on(model: Segmentor, first: int, last: int) -> list[float]:
        values = []
        for iteration in range(first, last):
            torch.manual_seed(iteration)
            values.append(float(model.loss(x + iteration, batch)["loss_isw"]))
        return values

    go_on(model, 0, 2)  # one batch of statistics is in, one is to come
    torch.save(model.state_dict(), path)
    uninterrupted = go_on(model, 2, 5)
    resumed = build()
    from backbones import load_weights

    load_weights(resumed, path)
    assert go_on(resumed, 2, 5) == uninterrupted
    assert uninterrupted[-1] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"feature_losses": [ISW | {"features": "layr1"}]}, "did you mean.*layer1"),
        ({"style": [MIXSTYLE | {"after": "layer7"}]}, "did you mean"),
        ({"feature_losses": [ISW, ISW]}, "hide each other"),
        ({"feature_losses": [MIXSTYLE]}, "is no seg.models.FeatureLoss"),
        ({"style": [ISW]}, "is no seg.models.StyleModule"),
        ({"feature_losses": [ISW | {"features": "maxpool.x"}]}, "no module 'maxpool.x'"),
    ],
)
def test_mistakes_are_named(segmentor, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segmentor({"ibn": "b"}, **overrides)


def test_a_compiled_backbone_is_refused(segmentor, samples) -> None:
    model = segmentor(style=[MIXSTYLE])
    model.backbone.compile(backend="eager")
    with pytest.raises(ValueError, match=r"precision\.compile=False"):
        model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))


# ------------------------------------------------------------------------------------------ style


def test_style_acts_in_training_only(segmentor) -> None:
    model = segmentor({"norm": "gn"}, style=[MIXSTYLE])  # norms that do the same in both modes
    plain = segmentor({"norm": "gn"})
    plain.load_state_dict(model.state_dict())
    x = torch.randn(4, 3, 64, 64) * torch.rand(4, 3, 1, 1) * 5
    assert not torch.allclose(model.backbone(x)[0], plain.backbone(x)[0])
    assert torch.equal(model.eval().backbone(x)[0], plain.eval().backbone(x)[0])


def test_style_leaves_the_state_dict_as_it_is(segmentor) -> None:
    assert segmentor(style=[MIXSTYLE]).state_dict().keys() == segmentor().state_dict().keys()


def test_a_deep_copy_has_its_own_style(segmentor) -> None:
    model = segmentor(style=[MIXSTYLE])
    twin = copy.deepcopy(model)
    twin.eval()
    hooks = [*twin.backbone.layer1._forward_hooks.values()]
    assert hooks[0].transform is twin.style[0]
    assert hooks[0].transform is not model.style[0]
    assert model.style[0].training


def test_style_and_losses_learn(segmentor, samples) -> None:
    model = segmentor(
        {"ibn": "b"},
        style=[MIXSTYLE],
        feature_losses=[ISW, {"type": "seg.SwitchableWhitening", "features": "layer1"}],
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    x, batch = torch.randn(2, 3, 64, 64), samples(2, 64, 64, classes=1)
    values = []
    for _ in range(8):
        losses = model.loss(x, batch)
        total = sum(v for k, v in losses.items() if "loss" in k)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(float(losses["decode.loss_ce"]))
    assert values[-1] < values[0]


def test_all_of_it_under_autocast(segmentor, samples) -> None:
    losses = [ISW | {"start": 0}, {"type": "seg.SwitchableWhitening", "features": "layer1"}]
    model = segmentor({"ibn": "b"}, style=[MIXSTYLE], feature_losses=losses)
    model = model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))
    assert found["loss_isw"].dtype == torch.float32
    assert float(found["loss_isw"]) > 0
    sum(v for k, v in found.items() if "loss" in k).backward()
    for name, parameter in model.named_parameters():  # also those that took part in statistics
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
