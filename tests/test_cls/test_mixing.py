from __future__ import annotations

import pytest
import torch

from cls.mixing import build_mixing


def data(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is filled with i, its label is i."""
    return torch.arange(n).float().view(n, 1, 1, 1).expand(n, 3, 8, 8).clone(), torch.arange(n)


def test_nothing_is_mixed_by_default() -> None:
    images, labels = data()
    out = build_mixing([], 6)(images, labels)
    assert out[0] is images and out[1] is labels


def test_mixup_mixes_images_as_it_mixes_labels() -> None:
    images, labels = data()
    mixed, target = build_mixing([dict(type="MixUp", alpha=1.0)], 6)(images, labels)
    values = torch.arange(6).float()
    torch.testing.assert_close(mixed[:, 0, 0, 0], target @ values)
    torch.testing.assert_close(target.sum(1), torch.ones(6))


def test_cutmix_shares_are_those_of_the_area() -> None:
    images, labels = data()
    mixed, target = build_mixing([dict(type="CutMix", alpha=1.0)], 6)(images, labels)
    for image, shares in zip(mixed, target, strict=True):
        area = torch.stack([(image[0] == value).float().mean() for value in range(6)])
        torch.testing.assert_close(area, shares)


def test_one_of_several_is_drawn() -> None:
    images, labels = data()
    mix = build_mixing([dict(type="MixUp"), dict(type="CutMix")], 6)
    whole = {bool((mix(images, labels)[0] % 1 == 0).all()) for _ in range(30)}
    assert whole == {True, False}  # CutMix keeps values whole, MixUp does not


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([dict(type="Mixup")], "unknown type 'Mixup'"),
        ([dict(alpha=1.0)], "unknown type None"),
        ([dict(type="MixUp", alpha=0)], "a number above 0"),
        ([dict(type="MixUp", p=0.5)], "MixUp takes alpha"),
        (dict(type="MixUp"), "is a list"),
    ],
)
def test_wrong_configs(config, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_mixing(config, 3)
