from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

pytest.importorskip("mmseg")
pytest.importorskip("timm")

from seg.models.frozen_vit import FrozenViT, resampled

SMALL: dict[str, Any] = {"embed_dim": 24, "depth": 3, "num_heads": 2, "img_size": 56}


def vit(**overrides: Any) -> FrozenViT:
    arguments = SMALL | {"out_indices": (0, 1, 2)} | overrides
    return FrozenViT("vit_small_patch14_dinov2", **arguments)


@pytest.mark.parametrize("size", [(56, 56), (60, 33), (14, 14), (1, 1), (100, 71)])
@pytest.mark.parametrize("strides", [None, (4, 14, 32)])
def test_any_size_of_image(size: tuple[int, int], strides: tuple[int, ...] | None) -> None:
    model = vit(strides=strides)
    maps = model(torch.randn(2, 3, *size))
    expected = [tuple(-(-n // s) for n in size) for s in model.reductions]
    assert [tuple(m.shape[2:]) for m in maps] == expected
    assert [m.shape[1] for m in maps] == list(model.out_channels) == [24] * 3


def test_dinov3_and_plain_vits_build() -> None:
    for name in ("vit_small_patch16_dinov3", "vit_tiny_patch16_224"):
        kwargs = {k: v for k, v in SMALL.items() if k != "img_size"}
        model = FrozenViT(name, out_indices=(-1,), **(kwargs | {"img_size": 64}))
        assert model(torch.randn(1, 3, 70, 50))[0].shape == (1, 24, 5, 4)


def test_frozen_means_no_gradient_and_eval_mode() -> None:
    model = vit().train()
    assert not model.vit.training
    assert model.training
    assert not any(p.requires_grad for p in model.parameters())
    x = torch.randn(1, 3, 28, 28, requires_grad=True)
    assert not model(x)[0].requires_grad
    free = vit(frozen=False).train()
    assert free.vit.training
    free(x)[0].sum().backward()
    assert x.grad is not None


def test_weights_by_file_survive_initialisation(tmp_path) -> None:
    source = vit()
    state = {k: torch.randn_like(v) for k, v in source.vit.state_dict().items()}
    state["head.weight"], state["mask_token"] = torch.zeros(10, 24), torch.zeros(1, 24)
    path = tmp_path / "vit.pth"
    torch.save(state, path)
    model = vit(weights=path)
    model.init_weights()
    assert all(torch.equal(v, state[k]) for k, v in model.vit.state_dict().items())


def test_position_embeddings_of_another_size_are_interpolated(tmp_path) -> None:
    path = tmp_path / "vit.pth"
    torch.save(vit(img_size=112).vit.state_dict(), path)
    assert vit(weights=path).vit.pos_embed.shape[1] == 4 * 4 + 1


def test_weights_that_do_not_fit_are_reported(tmp_path) -> None:
    state = vit().vit.state_dict()
    state["surprise"] = state.pop("blocks.1.norm1.weight")
    path = tmp_path / "vit.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        vit(weights=path)
    assert "blocks.1.norm1.weight" in str(error.value)
    assert "surprise" in str(error.value)
    with pytest.raises(FileNotFoundError):
        vit(weights=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_indices": (3,)}, "blocks 0 to 2"),
        ({"out_indices": ()}, "blocks 0 to 2"),
        ({"out_indices": (2, 0)}, "must increase"),
        ({"strides": (4, 8)}, "one stride"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vit(**arguments)


def test_an_unknown_name_lists_some() -> None:
    with pytest.raises(ValueError, match=r"vit_.*dino"):
        FrozenViT("vit_smal_patch14_dinov2")


def test_without_timm_the_pip_line_is_given(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        vit()


def ramp(height: int, width: int, patch: int) -> torch.Tensor:
    """Tokens that hold the position of their centre in pixels: (1, 2, h, w), y and x."""
    y = (torch.arange(-(-height // patch)) + 0.5) * patch
    x = (torch.arange(-(-width // patch)) + 0.5) * patch
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None].float()


@pytest.mark.parametrize("stride", [4, 7, 14, 28, 32])
def test_resampled_positions_are_those_of_the_image(stride: int) -> None:
    height, width = 150, 97  # padded to 154 x 98
    out = resampled(ramp(height, width, 14), 14, stride, (height, width))[0]
    for values, length, axis in ((out[0], height, 0), (out[1], width, 1)):
        n = -(-length // stride)
        expected = (torch.arange(n) + 0.5) * (length / n)
        found = values.mean(1 - axis)
        margin = max(14, stride) / 2
        inside = (expected > margin) & (expected < length - margin)
        assert torch.allclose(found[inside], expected[inside], atol=0.01)


def test_positions_are_exact_in_bfloat16() -> None:
    tokens = torch.zeros(1, 1, 64, 64).bfloat16()
    tokens[..., 40:] = 1
    out = resampled(tokens, 14, 7, (896, 896))[0, 0, 0]
    assert out.dtype == torch.bfloat16
    assert torch.equal(
        out[80:].ne(0) & out[80:].ne(1),
        torch.zeros(48).bool().index_fill(0, torch.tensor([0]), True),
    )


def test_nothing_is_resampled_where_tokens_are_the_answer() -> None:
    tokens = torch.randn(1, 4, 3, 5)
    assert resampled(tokens, 14, 14, (42, 70)) is tokens
