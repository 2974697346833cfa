"""The protocol of a published split, in words: whether this is it, for numbers depend on it."""

from typing import Literal

from reid.datasets.base import CameraOption

__all__ = ["state_protocol"]


def state_protocol(
    name: str,
    counts: tuple[int, int, int],
    official: tuple[int, int, int],
    *,
    how: str = "",
    what: Literal["split", "images"] = "split",
    camera: CameraOption = "auto",
) -> str:
    """``market1501 official split, 12,936/3,368/15,913 images``, or that it is not.

    Args:
        name: of the layout.
        counts, official: images of train, query and gallery; found, and published.
        how: what else was decided, e.g. ``new protocol, labelled boxes``.
        what: 'split' where the lists are published, 'images' where only the images are and the
            split is drawn.
        camera: the option of the data set; None is said, too.
    """
    details = f", {how}" if how else ""
    found = "/".join(f"{number:,}" for number in counts)
    words = (
        f"{name} official {what}{details}, {found} images"
        if counts == official
        else f"{name} layout{details}, {found} images: not the official {what}"
    )
    return words if camera else f"{words}; camera labels ignored"
