"""Images on their way into a gallery: prepared for the network, with a small picture to keep.

As :mod:`reid.image_loading`, but from the same bytes, in the same process, come the image's sha256
and its thumbnail: every file is read and decoded once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Dataset

from imaging.files import UnreadableImageError, decode_image, read_bytes
from imaging.samples import Transform
from imaging.thumbnail import encode_thumbnail

from .image_loading import read_ahead, stack
from .image_sources import Item

__all__ = ["GalleryBatch", "load_gallery_images"]


class GalleryBatch(NamedTuple):
    """Some items, those that could be read; the first three are those of an image batch."""

    inputs: Tensor | None
    """(B, 3, H, W) uint8 RGB; None where B = 0."""
    positions: list[int]
    """B places in the list of items, ascending."""
    failed: list[tuple[int, str]]
    """Places of the others, and why."""
    thumbnails: list[bytes | None]
    """B JPEG pictures, or None each."""
    sums: list[str]
    """B sha256 of the files' bytes, hexadecimal."""


def load_gallery_images(
    items: Sequence[Item],
    batches: Sequence[Sequence[int]],
    transforms: Transform,
    *,
    thumbnails: bool = True,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[GalleryBatch]:
    """Read and prepare image files, a batch of positions in ``items`` at a time, in order.

    Args:
        workers: processes that decode; 0 does it here.
        pin_memory: for fast copies to a GPU.
    """
    source = _Images(items, batches, transforms, thumbnails)
    yield from read_ahead(source, min(workers, len(batches)), pin_memory)


class _Images(Dataset[GalleryBatch]):
    def __init__(
        self,
        items: Sequence[Item],
        batches: Sequence[Sequence[int]],
        transforms: Transform,
        thumbnails: bool,
    ) -> None:
        self.items, self.batches, self.transforms = items, batches, transforms
        self.thumbnails = thumbnails

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> GalleryBatch:
        batch = GalleryBatch(None, [], [], [], [])
        prepared = []
        for position in self.batches[number]:
            try:
                data = read_bytes(self.items[position].path)
                image = decode_image(data)
            except UnreadableImageError as error:
                batch.failed.append((position, error.reason))
                continue
            except ValueError as error:
                batch.failed.append((position, str(error)))
                continue
            batch.positions.append(position)
            batch.thumbnails.append(encode_thumbnail(image) if self.thumbnails else None)
            batch.sums.append(hashlib.sha256(data).hexdigest())
            prepared.append(self.transforms(image, None))
        return batch._replace(inputs=stack(prepared)) if prepared else batch
