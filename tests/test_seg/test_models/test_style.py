from __future__ import annotations

import pytest
import torch

pytest.importorskip("mmseg")

from seg.models.adain import AdaINStyle
from seg.models.dsu import DSU
from seg.models.mixstyle import MixStyle
from seg.models.style import StyleModule, restyled, style_of

ALL = [MixStyle, AdaINStyle, DSU]


def maps(n: int = 4) -> torch.Tensor:
    scale, offset = torch.rand(n, 3, 1, 1) + 0.5, torch.randn(n, 3, 1, 1)
    return torch.randn(n, 3, 32, 32) * scale + offset


def test_restyled_has_the_new_style() -> None:
    x, y = maps(), maps()
    out = restyled(x, style_of(x), style_of(y))
    for found, wanted in zip(style_of(out), style_of(y), strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)
    # and the same content
    for a, b in ((x, out),):
        mean_a, std_a = style_of(a)
        mean_b, std_b = style_of(b)
        assert torch.allclose((a - mean_a) / std_a, (b - mean_b) / std_b, atol=1e-3)


@pytest.mark.parametrize("kind", ALL)
def test_acts_in_training_only_and_with_its_probability(kind: type[StyleModule]) -> None:
    x = maps()
    assert kind("a").eval()(x) is x
    assert kind("a", p=0.0)(x) is x
    changed = [kind("a", p=0.5)(x) is not x for _ in range(200)]
    assert 70 < sum(changed) < 130


@pytest.mark.parametrize("kind", ALL)
def test_one_image_keeps_its_style(kind: type[StyleModule]) -> None:
    x = maps(1)
    assert torch.allclose(kind("a", p=1.0)(x), x, atol=1e-5)
    constant = torch.full((2, 3, 4, 4), 5.0)
    assert torch.allclose(kind("a", p=1.0)(constant), constant)
    assert kind("a", p=1.0)(torch.zeros(0, 3, 4, 4)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("kind", ALL)
def test_dtype_layout_and_gradient(kind: type[StyleModule]) -> None:
    x = maps().bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    out = kind("a", p=1.0)(x)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.float().sum().backward()
    assert x.grad.isfinite().all()


def test_mixstyle_lies_between_two_styles_of_the_batch() -> None:
    x = maps(6)
    (mean, std), (new_mean, new_std) = style_of(x), style_of(MixStyle("a", p=1.0, alpha=1.0)(x))
    for i in range(6):
        fits = []
        for j in range(6):
            step = mean[j] - mean[i]
            share = ((new_mean[i] - mean[i]) * step).sum() / step.square().sum().clamp(min=1e-9)
            close = torch.allclose(new_mean[i], mean[i] + share * step, atol=1e-3)
            same = torch.allclose(new_std[i], std[i] + share * (std[j] - std[i]), atol=1e-3)
            fits.append(close and same and -1e-3 <= share <= 1.001)
        assert any(fits)


def test_mixstyle_shares_follow_beta() -> None:
    mean = torch.arange(2000.0).view(-1, 1, 1, 1)
    module = MixStyle("a", alpha=0.1)
    torch.manual_seed(0)
    share = torch.distributions.Beta(0.1, 0.1).sample((2000, 1, 1, 1))
    partner = torch.randperm(2000)
    torch.manual_seed(0)
    new, _ = module.new_style(mean, mean)
    assert torch.allclose(new, share * mean + (1 - share) * mean[partner], atol=1e-2)
    assert 0.4 < ((share < 0.05) | (share > 0.95)).float().mean() < 0.95


def test_adain_exchanges_styles() -> None:
    x = maps(5)
    before, after = style_of(x), style_of(AdaINStyle("a", p=1.0)(x))
    for old, new in zip(before, after, strict=True):
        assert torch.allclose(old.sort(0).values, new.sort(0).values, atol=1e-4)


def test_randomisation_moves_by_the_deviation_of_the_batch() -> None:
    mean = torch.tensor([0.0, 2.0] * 5000).view(-1, 1, 1, 1)
    std = torch.full_like(mean, 0.5)
    new_mean, new_std = DSU("a", factor=0.5).new_style(mean, std)
    assert (new_mean - mean).std() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(new_std, std)  # it does not vary, so it is not moved


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MixStyle((), p=0.5), "at least one"),
        (lambda: MixStyle("a", p=1.5), "probability"),
        (lambda: MixStyle("a", alpha=0.0), "alpha"),
        (lambda: DSU("a", factor=-1.0), "factor"),
    ],
)
def test_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
