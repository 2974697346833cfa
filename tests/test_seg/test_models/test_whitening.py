from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from seg.models.switchable_whitening import SwitchableWhitening, batch_covariance
from seg.models.whitening import (
    InstanceSelectiveWhitening,
    InstanceWhitening,
    above_diagonal,
    instance_covariance,
    off_diagonal_loss,
    sensitive_mask,
    variance_between,
)


def naive_covariance(image: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """(C, H, W) -> (C, C), pixel by pixel."""
    c = len(image)
    flat = image.reshape(c, -1)
    z = np.array([(row - row.mean()) / np.sqrt(row.var() + eps) for row in flat])
    total = np.zeros((c, c))
    for pixel in z.T:
        total += np.outer(pixel, pixel)
    return total / (flat.shape[1] - 1)


def test_covariance_is_the_naive_one(device: torch.device) -> None:
    x = 3 * torch.randn(2, 5, 4, 3, device=device) + 7
    expected = np.stack([naive_covariance(image) for image in x.double().cpu().numpy()])
    assert np.allclose(instance_covariance(x).cpu(), expected, atol=1e-5)


def test_covariance_knows_no_contrast_and_no_brightness() -> None:
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    changed = x * torch.rand(2, 5, 1, 1).add(0.5) + torch.randn(2, 5, 1, 1)
    assert torch.allclose(instance_covariance(x), instance_covariance(changed), atol=1e-4)


def test_constant_channels_and_half_precision() -> None:
    x = torch.randn(2, 4, 5, 5)
    x[:, 1] = 3
    covariance = instance_covariance(x)
    assert covariance[:, 1].abs().max() == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = instance_covariance(x.bfloat16())
    assert half.dtype == torch.float32
    assert torch.allclose(half, covariance, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 3), (1, 4, 5)])
def test_maps_without_covariance(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two positions or more"):
        instance_covariance(torch.zeros(shape))


def test_off_diagonal_loss_by_hand() -> None:
    covariance = torch.tensor([[[1, 0.5, -0.1], [9, 1, 0.3], [9, 9, 1.0]]])
    elements = above_diagonal(covariance)
    assert elements[0].tolist() == pytest.approx([0.5, -0.1, 0.3])
    assert off_diagonal_loss(elements) == pytest.approx(0.3)
    assert off_diagonal_loss(elements, margin=0.1) == pytest.approx(0.2)
    assert off_diagonal_loss(elements, margin=0.4) == 0
    assert off_diagonal_loss(elements, torch.tensor([0, 1, 1])) == pytest.approx(0.2)
    assert off_diagonal_loss(elements, torch.zeros(3)) == 0
    assert off_diagonal_loss(elements.expand(4, -1)) == pytest.approx(0.3)  # mean over images
    assert off_diagonal_loss(torch.zeros(2, 0)) == 0  # one channel


@pytest.mark.parametrize(
    "loss",
    [
        InstanceWhitening("x"),
        InstanceWhitening("x", margin=0.05),
        SwitchableWhitening("x", switch=(1.0, -0.5)),
    ],
)
def test_gradients(loss: torch.nn.Module) -> None:
    x = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert loss([loss.measure(x)]) > 0
    assert torch.autograd.gradcheck(lambda x: loss([loss.measure(x)]), x)


def test_gradients_of_the_selected_elements_only() -> None:
    loss = InstanceSelectiveWhitening("x", statistics_images=1).double()
    loss.configure({"x": 3})
    loss.images += 1
    loss.mask_0.copy_(torch.tensor([1, 0, 0]))  # channels 0 and 1
    x = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss([loss.measure(x)]), x)
    (gradient,) = torch.autograd.grad(loss([loss.measure(x)]), x)
    assert gradient[:, 2].eq(0).all()
    assert gradient[:, :2].ne(0).all()


def test_descent_whitens() -> None:
    x = torch.randn(2, 1, 8, 8) + 0.3 * torch.randn(2, 4, 8, 8)
    x.requires_grad_()
    loss = InstanceWhitening("x")
    first = float(loss([loss.measure(x)]))
    optimiser = torch.optim.Adam([x], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        value = loss([loss.measure(x)])
        value.backward()
        optimiser.step()
    assert float(value) < 0.2 * first


def test_the_loss_is_the_mean_over_features() -> None:
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 6, 2, 2)]
    both = InstanceWhitening(("a", "b"), weight=0.6)
    single = [InstanceWhitening("a", weight=1.0) for _ in maps]
    each = [float(loss([loss.measure(x)])) for loss, x in zip(single, maps, strict=True)]
    assert float(both([both.measure(x) for x in maps])) == pytest.approx(0.6 * sum(each) / 2)


def test_variance_between_a_pair() -> None:
    a, b = torch.randn(5, 7), torch.randn(5, 7)
    expected = torch.stack([a, b]).var(0, correction=0).mean(0)
    assert torch.allclose(variance_between(a, b), expected)


def test_mask_by_hand() -> None:
    variance = torch.tensor([0.0, 0.01, 0.5, 0.02, 0.9, 0.52])
    assert sensitive_mask(variance, 3).tolist() == [0, 0, 1, 0, 1, 1]
    assert sensitive_mask(variance, 3, insensitive=2).tolist() == [0, 0, 0, 0, 1, 0]
    assert sensitive_mask(torch.zeros(6), 3).tolist() == [0] * 6  # nothing moves: nothing selected


def test_phases_of_selective_whitening() -> None:
    loss = InstanceSelectiveWhitening("x", start=2, statistics_images=5, clusters=2, weight=1.0)
    loss.configure({"x": 3})
    elements = torch.tensor([[0.2, 0.4, -0.6]]).repeat(3, 1)
    wanted = []
    for _ in range(5):
        wanted.append(loss.wants_copies)
        if loss.wants_copies:
            loss.gather([elements], [elements + torch.tensor([0.0, 0.3, 0.001])])
        value = float(loss([elements]))
    assert wanted == [False, False, True, True, False]  # 3 + 3 images are at least 5
    assert loss.masks[0].tolist() == [0, 1, 0]
    assert value == pytest.approx(0.4)
    assert loss.variance_0.tolist() == pytest.approx([0, 0.3**2 / 4, 0.001**2 / 4], rel=1e-3)
    assert int(loss.images) == 6


def test_statistics_weigh_every_image_the_same() -> None:
    a, b = torch.randn(7, 10), torch.randn(7, 10)
    whole, parts = (InstanceSelectiveWhitening("x", statistics_images=99) for _ in range(2))
    for loss in (whole, parts):
        loss.configure({"x": 5})
    whole.gather([a], [b])
    for part in (slice(0, 1), slice(1, 5), slice(5, 7)):
        parts.gather([a[part]], [b[part]])
    assert torch.allclose(whole.variance_0, parts.variance_0)


def test_validation_does_not_count_as_training() -> None:
    loss = InstanceSelectiveWhitening("x", start=1)
    loss.configure({"x": 3})
    loss.eval()([torch.zeros(1, 3)])
    assert int(loss.iterations) == 0


def test_state_goes_through_a_checkpoint() -> None:
    first, second = (
        InstanceSelectiveWhitening(("x", "y"), start=0, statistics_images=2) for _ in range(2)
    )
    for loss in (first, second):
        loss.configure({"x": 3, "y": 4})
    maps = [torch.randn(2, 3), torch.randn(2, 6)]
    first.gather(maps, [torch.randn(2, 3), torch.randn(2, 6)])
    first(maps)
    second.load_state_dict(first.state_dict())
    assert second.is_on
    assert float(second(maps)) == float(first(maps)) > 0


def test_batch_covariance_is_that_of_all_pixels() -> None:
    x = torch.randn(3, 4, 5, 2, dtype=torch.float64)
    pixels = x.transpose(0, 1).reshape(4, -1).numpy()
    assert np.allclose(batch_covariance(x)[0], np.corrcoef(pixels) * 30 / 29, atol=1e-4)


def test_switch_goes_from_batch_to_instance() -> None:
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    instance = InstanceWhitening("x", weight=1.0)
    expected = float(instance([instance.measure(x)]))
    only = SwitchableWhitening("x", switch=(-50.0, 50.0), weight=1.0)
    assert float(only([only.measure(x)])) == pytest.approx(expected)
    batch = SwitchableWhitening("x", switch=(50.0, -50.0), weight=1.0)
    direct = above_diagonal(batch_covariance(x)).abs().mean()
    assert float(batch([batch.measure(x)])) == pytest.approx(float(direct))
    assert float(direct) < expected


def test_switch_is_fixed_unless_told() -> None:
    assert not list(SwitchableWhitening("x").parameters())
    learned = SwitchableWhitening(("x", "y"), learned=True)
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)]
    learned([learned.measure(x) for x in maps]).backward()
    assert learned.switch.grad is not None
    assert learned.switch.grad.ne(0).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InstanceWhitening(()), "at least one"),
        (lambda: InstanceWhitening(("x", "x")), "named twice"),
        (lambda: InstanceWhitening("x", margin=-1), "margin"),
        (lambda: InstanceWhitening("x", loss_name="iw"), "begin with 'loss'"),
        (lambda: InstanceSelectiveWhitening("x", clusters=1), "insensitive < clusters"),
        (lambda: InstanceSelectiveWhitening("x", statistics_images=0), "statistics_images"),
        (lambda: SwitchableWhitening("x", switch=(1.0,)), "two logits"),
    ],
)
def test_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
