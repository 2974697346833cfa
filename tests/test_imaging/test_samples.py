from __future__ import annotations

import numpy as np
import pytest
import torch

from imaging.samples import as_transform, collate_samples, file_size


def sample(image: torch.Tensor, n: int = 0) -> dict:
    return dict(inputs=image, label=n, path=f"{n}.png")


def test_no_transform_is_the_image_and_owns_its_pixels() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = as_transform(None)(images[1], None)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), images[1])
    tensor.zero_()
    assert images[1].any()


def test_functions_stay_and_lists_are_built() -> None:
    def own(image: np.ndarray, seed: int | None) -> torch.Tensor:
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    assert as_transform(own) is own
    built = as_transform([dict(type="Resize", height=2, width=3)])
    assert built(np.zeros((8, 8, 3), np.uint8), 0).shape == (3, 2, 3)


@pytest.mark.parametrize("last", [True, False])
def test_a_batch_keeps_pixels_and_memory_format(last) -> None:
    planes = torch.randint(256, (4, 3, 5, 6), dtype=torch.uint8)
    images = planes.contiguous(memory_format=torch.channels_last) if last else planes
    batch = collate_samples([sample(image, n) for n, image in enumerate(images)], ["label"])
    assert torch.equal(batch["inputs"], planes)
    layout = torch.channels_last if last else torch.contiguous_format
    assert batch["inputs"].is_contiguous(memory_format=layout)
    assert batch["label"].tolist() == [0, 1, 2, 3] and batch["label"].dtype == torch.int64
    assert batch["path"] == ["0.png", "1.png", "2.png", "3.png"]


def test_what_forms_no_batch() -> None:
    with pytest.raises(ValueError, match="empty batch"):
        collate_samples([], ["label"])
    sizes = [torch.zeros(3, n, n, dtype=torch.uint8) for n in (4, 5)]
    with pytest.raises(ValueError, match=r"\(3, 4, 4\), \(3, 5, 5\)"):
        collate_samples([sample(image) for image in sizes], ["label"])


def test_size_of_a_file(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    assert file_size(str(tmp_path / "a")) == 4 and file_size(str(tmp_path / "b")) == -1
