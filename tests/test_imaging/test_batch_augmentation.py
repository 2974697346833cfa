from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from imaging.batch_augmentation import STEPS, BatchAugmentation, uniform_draws
from imaging.registry import MODELS
from imaging.transforms import build_transforms

H, W = 24, 12
EXAMPLES = {
    "HorizontalFlip": dict(p=0.5),
    "Pad": dict(padding=3, fill=(1, 2, 3)),
    "RandomCrop": dict(height=20, width=9),
    "RandomErasing": dict(scale=(0.02, 0.4), fill=(0, 0, 0), p=0.5),
    "ColorJitter": dict(brightness=0.3, contrast=0.4, saturation=0.5, hue=0, p=0.5),
}
RECIPE = [
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=3),
    dict(type="RandomCrop", height=H, width=W),
    dict(type="RandomErasing", p=0.5),
]


def batch(n: int) -> torch.Tensor:
    """(n, 3, H, W) noise, channels last in memory, as the collate function gives it."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (n, H, W, 3), dtype=torch.uint8, generator=generator).permute(
        0, 3, 1, 2
    )


def augment(steps: list[dict], images: torch.Tensor, first_seed: int = 0) -> torch.Tensor:
    return BatchAugmentation(steps)(images, torch.arange(len(images)) + first_seed)


def per_image(steps: list[dict], images: torch.Tensor) -> torch.Tensor:
    pipeline = build_transforms(steps)
    rows = images.permute(0, 2, 3, 1).numpy()
    return torch.stack([pipeline(row, seed) for seed, row in enumerate(rows)])


# ------------------------------------------------------------------------------ random numbers


def test_draws_are_uniform_and_independent() -> None:
    drawn = uniform_draws(torch.arange(4000), 6)
    assert drawn.shape == (4000, 6) and drawn.dtype == torch.float64
    for column in drawn.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(drawn.T.numpy()) - np.eye(6)
    neighbours = np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]  # of consecutive seeds
    assert np.abs(correlations).max() < 0.06 and abs(neighbours) < 0.06


def test_a_draw_is_a_function_of_its_seed() -> None:
    seeds = torch.tensor([3, 2**62 + 5, 0, 3])
    drawn = uniform_draws(seeds, 4)
    assert torch.equal(drawn[0], drawn[3]) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(uniform_draws(seeds[1:2], 2)[0], drawn[1, :2])
    assert uniform_draws(torch.empty(0, dtype=torch.int64), 3).shape == (0, 3)


def test_splitmix64s_published_numbers() -> None:
    """Its state starts at the mixed seed; from the state 1234567 come the known first numbers."""
    from imaging.batch_augmentation import _STEP, _mixed

    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.uint64(1234567) + _STEP * np.arange(1, 4, dtype=np.uint64)
    assert _mixed(states).tolist() == known


# ------------------------------------------------------------------------------ every step


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("last", [True, False])
def test_step_by_itself(name, last) -> None:
    """The same in any batch, in both memory formats; the images given stay as they are."""
    images = batch(16)
    before = images.clone()
    steps = [dict(type=name, **EXAMPLES[name])]
    given = images if last else images.contiguous()
    whole = augment(steps, given)
    assert torch.equal(images, before) and whole.dtype == torch.uint8
    assert whole.permute(0, 2, 3, 1).is_contiguous()
    parts = [augment(steps, images[i : i + 1], i) for i in range(16)]
    assert torch.equal(whole, torch.cat(parts))
    assert augment(steps, images[:0]).shape[0] == 0
    if BatchAugmentation(steps).steps[0].draws:
        assert not torch.equal(whole, augment(steps, images, 100))


def test_flip_rate() -> None:
    images = batch(2000)
    flipped = augment([dict(type="HorizontalFlip", p=0.3)], images)
    same = (flipped == images).flatten(1).all(1)
    assert torch.equal(flipped[~same], images[~same].flip(3))
    assert (~same).float().mean() == pytest.approx(0.3, abs=0.035)


def test_pad_is_the_per_image_pad() -> None:
    for steps in ([dict(type="Pad", padding=3, fill=(1, 2, 3))], [dict(type="Pad", padding=2)]):
        assert torch.equal(augment(steps, batch(2)), per_image(steps, batch(2)))


def test_crops_are_parts_of_the_image_at_uniform_places() -> None:
    places = torch.arange(H * W, dtype=torch.int16).reshape(1, 1, H, W)
    images = torch.cat([places // W, places % W, 0 * places], 1).to(torch.uint8)
    crops = augment([dict(type="RandomCrop", height=20, width=9)], images.expand(2000, -1, -1, -1))
    rows, columns = crops[:, 0, :, 0].long(), crops[:, 1, 0, :].long()
    assert (rows.diff(dim=1) == 1).all() and (columns.diff(dim=1) == 1).all()
    for first, count in ((rows[:, 0], 5), (columns[:, 0], 4)):
        found = torch.bincount(first, minlength=count)
        assert len(found) == count and stats.chisquare(found.numpy()).pvalue > 1e-3


def erased_boxes(images: torch.Tensor) -> np.ndarray:
    """(N, 4): top, left, height and width of the black part."""
    boxes = []
    for black in (images == 0).all(1).numpy():
        rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
        assert black.sum() == len(rows) * len(columns)  # one full rectangle
        first = (rows[0], columns[0]) if len(rows) else (-1, -1)
        boxes.append((*first, len(rows), len(columns)))
    return np.array(boxes)


def test_erasing_has_the_per_image_distribution() -> None:
    steps = [dict(type="RandomErasing", scale=(0.02, 0.4), fill=(0, 0, 0), p=0.6)]
    white = torch.full((1500, 3, 48, 24), 255, dtype=torch.uint8)
    ours, theirs = erased_boxes(augment(steps, white)), erased_boxes(per_image(steps, white))
    for boxes in (ours, theirs):
        assert (boxes[:, 2] > 0).mean() == pytest.approx(0.6, abs=0.04)
    for column in range(4):
        pair = (boxes[boxes[:, 2] > 0, column] for boxes in (ours, theirs))
        assert stats.ks_2samp(*pair).pvalue > 1e-3
    areas = (boxes[boxes[:, 2] > 0, 2:].prod(1) for boxes in (ours, theirs))
    assert stats.ks_2samp(*areas).pvalue > 1e-3


def test_nothing_that_fits_erases_nothing() -> None:
    steps = [dict(type="RandomErasing", scale=(1.0, 1.0), fill=(0, 0, 0), p=1.0)]
    assert torch.equal(augment(steps, batch(4)), batch(4))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_one_colour_factor_is_the_per_image_change(kind) -> None:
    """With a range of one value there is no chance in it."""
    factors = dict(brightness=(1, 1), contrast=(1, 1), saturation=(1, 1)) | {kind: (0.7, 0.7)}
    steps = [dict(type="ColorJitter", **factors, hue=0, p=1.0)]
    difference = augment(steps, batch(3)).float() - per_image(steps, batch(3)).float()
    assert difference.abs().max() <= 1.01 and difference.abs().mean() < 0.7


def test_colours_have_the_per_image_distribution() -> None:
    steps = [dict(type="ColorJitter", **EXAMPLES["ColorJitter"])]
    images = batch(1)[..., ::3, ::3].expand(1200, -1, -1, -1)
    ours, theirs = (f(steps, images).float() for f in (augment, per_image))
    changed = (ours != images).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.5, abs=0.05)
    for measure in (lambda x: x.mean((1, 2, 3)), lambda x: x.std((1, 2, 3))):
        kept = (measure(x)[measure(x) != measure(images.float())] for x in (ours, theirs))
        assert stats.ks_2samp(*(k.numpy() for k in kept)).pvalue > 1e-3


# ------------------------------------------------------------------------------ in a model


@pytest.fixture
def normalizer():
    return MODELS.build(dict(type="imaging.AugmentingNormalizer", augmentations=RECIPE))


def test_only_training_is_augmented(normalizer) -> None:
    plain = MODELS.build(dict(type="engine.ImageNormalizer"))
    data = {"inputs": batch(6), "seed": torch.arange(6), "label": torch.arange(6)}
    evaluated = normalizer(data)
    assert torch.equal(evaluated["inputs"], plain(data)["inputs"])
    trained = normalizer(data, training=True)
    expected = plain({"inputs": augment(RECIPE, batch(6))})["inputs"]
    assert torch.equal(trained["inputs"], expected)
    assert torch.equal(trained["label"], data["label"])
    assert trained["inputs"].is_contiguous(memory_format=torch.channels_last)
    assert normalizer.state_dict() == {}


@pytest.mark.parametrize("seeds", [{}, {"seed": torch.full((6,), -1)}])
def test_without_seeds_torch_draws_them(normalizer, seeds) -> None:
    """What IterationSeedHook sets before each iteration decides, as for dropout."""
    runs = []
    for manual in (5, 5, 6):
        torch.manual_seed(manual)
        runs.append(normalizer({"inputs": batch(6), **seeds}, training=True)["inputs"])
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.gpu
def test_cuda_gives_the_same(device) -> None:
    steps = [*RECIPE, dict(type="ColorJitter", **EXAMPLES["ColorJitter"])]
    here, there = augment(steps, batch(32)), augment(steps, batch(32).to(device)).cpu()
    assert (here.int() - there.int()).abs().max() <= 1


# ------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (dict(type="Rotate"), "unknown step 'Rotate' for batches"),
        (dict(p=0.5), "unknown step 'None'"),
        (dict(type="Pad", pad=3), "takes no argument 'pad'; it takes padding, fill"),
        (dict(type="Pad", padding=-1), "padding >= 0"),
        (dict(type="Pad", fill=(1, 2)), "fill: expected a number or three"),
        (dict(type="RandomErasing", scale=(0.4, 0.02)), "scale"),
        (dict(type="ColorJitter"), "hue=0"),
    ],
)
def test_wrong_steps(step, message) -> None:
    with pytest.raises(ValueError, match=message):
        BatchAugmentation([step])


def test_wrong_images() -> None:
    with pytest.raises(ValueError, match="hold no 30x9"):
        augment([dict(type="RandomCrop", height=30, width=9)], batch(1))
    with pytest.raises(ValueError, match=r"uint8 tensors, got torch.float32 of shape \(1, 3"):
        augment([], batch(1).float())
