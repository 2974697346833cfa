from __future__ import annotations

import numpy as np
import pytest
import torch

from cls.evaluation.styles import StyleImages, kuwahara, painting
from imaging.files import read_image


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 20, 30), generator=generator).float()


@pytest.fixture
def pictures(tmp_path, write_picture):
    rng = np.random.default_rng(0)
    for number, colour in enumerate(((200, 40, 30), (30, 60, 190))):
        noise = rng.integers(-25, 25, (40, 50, 3))
        write_picture(tmp_path / "art" / f"{number}.png", (np.array(colour) + noise).clip(0, 255))
    return tmp_path / "art"


INDEX = torch.tensor([0, 1, 2, 3])


def test_kuwahara_takes_the_mean_of_the_calmest_square(images) -> None:
    radius = 2
    found = kuwahara(images, radius)
    padded = np.pad(images.numpy(), [(0, 0), (0, 0), (radius, radius), (radius, radius)], "edge")
    for n, y, x in ((0, 0, 0), (1, 7, 11), (3, 19, 29), (2, 10, 29)):
        squares = [
            padded[n, :, top : top + radius + 1, left : left + radius + 1]
            for top in (y, y + radius)
            for left in (x, x + radius)
        ]
        calmest = min(squares, key=lambda s: s.mean(0).var())
        assert found[n, :, y, x] == pytest.approx(calmest.mean((1, 2)), rel=1e-4)


def test_a_flat_image_has_no_strokes() -> None:
    flat = torch.full((1, 3, 9, 9), 77.0)
    assert torch.allclose(kuwahara(flat, 3), flat)
    assert painting(flat, INDEX[:1]).isfinite().all()


def test_a_painting_has_the_palette_s_moments_and_depends_on_its_image_alone(images) -> None:
    painted = painting(images, INDEX)
    assert painted.shape == images.shape and 0 <= painted.min() <= painted.max() <= 255
    assert painted.mean((0, 2, 3)) == pytest.approx([126, 142, 146], abs=2)
    assert torch.allclose(painting(images[2:], INDEX[2:]), painted[2:], atol=1e-3)


def test_colours_are_those_of_the_picture_with_the_image_s_index(pictures, images) -> None:
    style = StyleImages(pictures)
    soft = images / 8 + 100  # leaves room, so that nothing is clipped
    found = style.colours(soft, INDEX)
    for index in range(4):
        own = read_image(pictures / f"{index % 2}.png").reshape(-1, 3)
        # the statistics agree in the logarithm; the means of the pixels nearly
        assert found[index].mean((1, 2)) == pytest.approx(own.mean(0), rel=0.1)
    assert torch.allclose(style.colours(soft[3:], INDEX[3:]), found[3:], atol=1e-3)
    # what has the picture's colours already stays as it is
    picture = torch.from_numpy(read_image(pictures / "0.png")).permute(2, 0, 1)[None].float()
    assert torch.allclose(style.colours(picture, INDEX[:1]), picture, atol=0.1)


def test_fourier_takes_low_amplitudes_and_keeps_the_rest(pictures, images) -> None:
    style = StyleImages(pictures)
    soft = images / 8 + 100
    found = style.fourier(soft, INDEX)
    before, after = (torch.fft.fft2(x).abs() for x in (soft, found))
    assert torch.allclose(after[..., 5:-5, 5:-5], before[..., 5:-5, 5:-5], atol=1)
    mean = read_image(pictures / "0.png").mean((0, 1))
    assert found[0].mean((1, 2)) == pytest.approx(mean, abs=3)
    assert torch.allclose(style.fourier(soft[1:2], INDEX[1:2]), found[1:2], atol=1e-2)


def test_many_pictures_are_thinned_out_and_subfolders_count(tmp_path, write_picture) -> None:
    for number in range(70):
        write_picture(tmp_path / str(number % 7) / f"{number:02d}.png", np.full((2, 3, 3), number))
    style = StyleImages(tmp_path)
    assert len(style.paths) == len(set(style.paths)) == 64


def test_no_pictures(tmp_path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        StyleImages(tmp_path)
    with pytest.raises(FileNotFoundError):
        StyleImages(tmp_path / "absent")
