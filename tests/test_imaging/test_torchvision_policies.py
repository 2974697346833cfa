from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import AutoAugmentPolicy, v2

from imaging.torchvision_policies import RandAugment
from imaging.transforms import build_transforms

from .conftest import picture

STEPS = [
    dict(type="AutoAugment"),
    dict(type="AutoAugment", policy="cifar10", fill=(124, 116, 104)),
    dict(type="AutoAugment", policy="svhn", interpolation="bilinear"),
    dict(type="RandAugment", num_ops=3, magnitude=15, fill=7),
    dict(type="TrivialAugmentWide"),
    dict(type="AugMix"),
    dict(type="AugMix", severity=7, mixture_width=2, chain_depth=2, all_ops=False, fill=7),
]


@pytest.fixture
def image() -> np.ndarray:
    return picture(0, (40, 32))


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_seed_decides_everything(image, step) -> None:
    before = image.copy()
    first, second = build_transforms([step]), build_transforms([step])
    results = [first(image, seed) for seed in range(12)]
    torch.manual_seed(99)
    for seed in reversed(range(12)):
        torch.rand(seed)  # nobody else's draws matter
        assert torch.equal(second(image, seed), results[seed])
    assert len({r.numpy().tobytes() for r in results}) > 6
    assert all(r.shape == (3, 40, 32) and r.dtype == torch.uint8 for r in results)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_torchs_own_randomness_is_left_alone(image, step) -> None:
    pipeline = build_transforms([step])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pipeline(image, 0)
    assert torch.equal(torch.rand(3), expected)


def test_also_when_it_fails(image) -> None:
    step = RandAugment()
    step.module = torch.nn.Identity()
    step.module.register_forward_pre_hook(lambda *_: torch.rand(3) / None)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with pytest.raises(TypeError):
        step(image=image)
    assert torch.equal(torch.get_rng_state(), state)


def test_operations_are_torchvisions(image) -> None:
    """The same draws of torch give the same pixels."""
    pairs = [
        (dict(type="AutoAugment", policy="cifar10"), v2.AutoAugment(AutoAugmentPolicy.CIFAR10)),
        (dict(type="RandAugment", magnitude=20), v2.RandAugment(magnitude=20)),
        (dict(type="TrivialAugmentWide"), v2.TrivialAugmentWide()),
        (dict(type="AugMix", severity=5, alpha=0.5), v2.AugMix(severity=5, alpha=0.5)),
    ]
    for config, theirs in pairs:
        step = build_transforms([config])._steps[0]
        for seed in range(10):
            out = step.apply(image, torch_seed=seed)
            torch.manual_seed(seed)
            assert np.array_equal(out, np.asarray(theirs(Image.fromarray(image))))


def test_two_policies_of_one_pipeline_choose_independently(image) -> None:
    seeds = []

    class Spy(torch.nn.Module):
        def forward(self, pixels: Image.Image) -> Image.Image:
            seeds.append(torch.initial_seed())
            return pixels

    twice = build_transforms([dict(type="TrivialAugmentWide")] * 2)
    for step in twice._steps:
        step.module = Spy()
    twice(image, 0)
    assert len(set(seeds)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        dict(type="AutoAugment", policy="cifar100"),
        dict(type="AutoAugment", interpolation="bicubic"),
        dict(type="AutoAugment", fill="black"),
        dict(type="RandAugment", num_ops=0),
        dict(type="RandAugment", magnitude=31),
        dict(type="TrivialAugmentWide", magnitude=3),
        dict(type="AugMix", severity=11),
        dict(type="AugMix", chain_depth=0),
        dict(type="AugMix", alpha=0.0),
    ],
)
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match=wrong["type"]):
        build_transforms([wrong])
