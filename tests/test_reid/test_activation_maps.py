from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.activation_maps import (
    activation_maps,
    activation_picture,
    activation_sheet,
    overlay_activation,
)


class Model(nn.Module):
    """Its last map has two channels of an 8th of the image's size: red and minus green."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def data_preprocessor(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"inputs": data["inputs"].float() / 255}

    def backbone(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.modes.append(self.training)
        pooled = nn.functional.avg_pool2d(inputs, 8)
        return inputs, torch.cat([pooled[:, :1], -pooled[:, 1:2]], dim=1)


def images(number: int = 3) -> Tensor:
    pictures = torch.zeros(number, 3, 32, 16, dtype=torch.uint8)
    pictures[:, 0, :8, :8] = 200  # red in one corner of each
    pictures[1:, 1, -8:, -8:] = 255  # and more green in the other of all but the first
    return pictures


def test_where_the_last_map_is_strong() -> None:
    model = Model().train()
    maps = activation_maps(model, images())
    assert maps.shape == (3, 32, 16) and maps.dtype == np.float32
    assert model.training and model.modes == [False]
    assert maps.min() == 0 and maps.max() == 1
    assert maps[0].argmax() // 16 < 8 and maps[0, 24:].max() == 0
    assert maps[1, -1, -1] == 1  # the sign of an activation does not matter
    assert maps[1, 0, 0] == pytest.approx((200 / 255) ** 2, abs=1e-4)


def test_an_image_without_any_difference_is_all_zero() -> None:
    assert not activation_maps(Model(), torch.full((1, 3, 16, 16), 9, dtype=torch.uint8)).any()


def test_of_a_real_network() -> None:
    from reid.registry import MODELS

    config = dict(type="backbones.ResNet", depth=18, last_stride=1)
    model = MODELS.build(dict(type="reid.Embedder", backbone=config))
    maps = activation_maps(model, images(2))
    assert maps.shape == (2, 32, 16) and np.isfinite(maps).all() and maps.max() == 1


def test_overlay() -> None:
    image = np.full((4, 2, 3), 100, np.uint8)
    activation = np.zeros((4, 2), np.float32)
    activation[0, 0] = 1
    shown = overlay_activation(image, activation)
    assert shown[0, 0].sum() > shown[1, 1].sum() and shown.shape == image.shape
    np.testing.assert_array_equal(overlay_activation(image, activation, alpha=0), image)
    with pytest.raises(ValueError, match="map of the image's size"):
        overlay_activation(image, activation.T)


@pytest.mark.parametrize("number", [1, 6, 8])
def test_sheet(number: int) -> None:
    sheet = activation_sheet(Model(), list(images(number)), height=64)
    rows, columns = -(-number // 6), min(number, 6)
    assert sheet.shape == (6 + rows * 70, 6 + columns * 70, 3)
    assert (sheet[6, 6].astype(int) - (200, 0, 0) < 20).all()  # the plain image stands left
    data = activation_picture(Model(), list(images(number)), height=64)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == sheet.shape


def test_no_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        activation_sheet(Model(), [])
