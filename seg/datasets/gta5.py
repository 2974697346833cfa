"""GTA5, "Playing for Data": Richter et al., ECCV 2016, https://arxiv.org/abs/1608.02192."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from engine.wording import counted
from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, keyed

__all__ = ["GTA5", "OFFICIAL_COUNTS", "ROBUSTNET_DROPPED"]

OFFICIAL_COUNTS = {"train": 12_403, "val": 6_382, "test": 6_181}
"""Images of the official split, 24,966 in all."""

ROBUSTNET_DROPPED: frozenset[str] = frozenset(
    f"{number:05d}"
    for number in (
        *(12160, 12166, 12167),
        *range(12191, 12194),
        12195,
        *range(12202, 12209),
        19993,
    )
)
"""Images (most of them blank) that RobustNet's lists leave out."""


@DATASETS.register_module()
class GTA5(SegmentationDataset):
    """``images/00001.png`` ... and ``labels/00001.png`` ..., palette PNGs of Cityscapes label ids.

    The official split follows no rule that could be computed: it alternates between runs of frames
    of a few dozen images. So train, val and test are read, in this order of preference, from
    ``split.mat`` (of the authors' page), from ``train.txt`` (or ``gtav_split_train.txt``) and so on
    in the root, one image name a line, or from the folders ``images/train`` and so on. Without any
    of them only ``split="all"`` is known: much published work (Rein, HRDA) trains on all images.

    Args:
        drop: image names or numbers, or ``"robustnet"``: the 15 images that RobustNet leaves out.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "gta5"
    EXPECTED = "GTA5's folders images/ and labels/ with 00001.png ... in each"

    @classmethod
    def matches(cls, root: Path) -> bool:
        if not ((root / "images").is_dir() and (root / "labels").is_dir()):
            return False
        return any(_is_number(n) for n in _first_names(root / "labels"))

    def names_to_drop(self, drop: Iterable[str | int] | str) -> frozenset[str]:
        if drop == "robustnet":
            return ROBUSTNET_DROPPED
        if isinstance(drop, str):
            raise ValueError(f"drop={drop!r}: GTA5 knows 'robustnet', or give a list of names")
        return frozenset(f"{d:05d}" if isinstance(d, int) else str(d) for d in drop)

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = "gta5"
        root = Path(self.root)
        within = ""
        wanted = None
        if self.split == "all":
            self.protocol = "GTA5 all: every image in the folder, no split"
        else:
            wanted, self.protocol = self._listed(root)
            if wanted is None:
                within = self.split
        images = keyed(root / "images", IMAGE_SUFFIXES, within=within)
        labels = keyed(root / "labels", (".png",), within=within)
        if wanted is not None:
            images = {k: p for k, p in images.items() if _stem(k) in wanted}
            labels = {k: p for k, p in labels.items() if _stem(k) in wanted}
            if absent := sorted(wanted - {_stem(k) for k in images} - self.drop):
                self._lists_absent(absent)
        return images, labels

    def _listed(self, root: Path) -> tuple[set[str] | None, str]:
        """Names (stems) of the split and the protocol; None where folders make the split."""
        if (root / "split.mat").is_file():
            return _read_mat(root / "split.mat", self.split)
        for name in (f"{self.split}.txt", f"gtav_split_{self.split}.txt"):
            if (root / name).is_file():
                stems = _read_list(root / name)
                count = OFFICIAL_COUNTS[self.split]
                return stems, (
                    f"GTA5 {self.split}: {len(stems):,} names in {name} ("
                    + (
                        "as many as in the official split"
                        if len(stems) == count
                        else f"the official split has {count:,}"
                    )
                    + ")"
                )
        if (root / "images" / self.split).is_dir():
            return None, f"GTA5 {self.split}: the folder images/{self.split}"
        raise FileNotFoundError(
            f"GTA5: the split {self.split!r} of {self.root!r} is unknown: there is no split.mat "
            f"(download it from the GTA5 page, https://download.visinf.tu-darmstadt.de/data/"
            f"from_games/), no {self.split}.txt with one image name a line, and no folder "
            f"images/{self.split}. Add one of them, or say split='all' to use every image"
        )

    def _lists_absent(self, absent: list[str]) -> None:
        text = (
            f"{self}: not in the folder images: {counted(len(absent), 'image')} of the split, e.g. "
            f"{', '.join(absent[:5])}"
        )
        if self.missing == "error":
            raise FileNotFoundError(
                f"{text}. Unpack all ten archives, or leave these out with missing='drop'"
            )
        self.protocol += f"; {len(absent):,} listed images are not there"


def _read_mat(path: Path, split: str) -> tuple[set[str], str]:
    from scipy.io import loadmat  # only here: it takes a while to import

    try:
        content = loadmat(os.fspath(path))
        numbers = {
            name: np.asarray(content[f"{name}Ids"]).astype(np.int64).reshape(-1)
            for name in OFFICIAL_COUNTS
        }
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not GTA5's split file (expected trainIds, valIds and testIds "
            f"in a MATLAB 5 file): {error}"
        ) from None
    counts = {name: len(ids) for name, ids in numbers.items()}
    described = (
        "the official split (split.mat)"
        if counts == OFFICIAL_COUNTS
        else "split.mat, which is not the official one: it has "
        + " / ".join(f"{c:,}" for c in counts.values())
        + " images instead of "
        + " / ".join(f"{c:,}" for c in OFFICIAL_COUNTS.values())
    )
    return {f"{int(i):05d}" for i in numbers[split]}, f"GTA5 {split}: {described}"


def _read_list(path: Path) -> set[str]:
    """Stems of the names in a list file; of several names in a line, the first is the image."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {_stem(line.split()[0]) for line in lines if line.strip()}


def _stem(name: str) -> str:
    path = PurePath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _is_number(name: str) -> bool:
    path = PurePath(name)
    return path.stem.isdigit() and len(path.stem) == 5 and path.suffix.lower() == ".png"


def _first_names(folder: Path, limit: int = 5) -> list[str]:
    """A few file names of a folder, or of the first folders in it."""
    names: list[str] = []
    for _, folders, found in os.walk(folder):
        folders.sort()
        names += [n for n in found[:50] if not n.startswith(".")]
        if len(names) >= limit:
            break
    return names
