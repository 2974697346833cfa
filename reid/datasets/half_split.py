"""Small sets of two views, whose people are divided into halves at random.

Half of the people seen in both views are trained on; of the others the images of the first view
are the queries and those of the second the gallery. People of the second view alone are
distractors in the gallery, those of the first alone are left out. Results of such sets are means
over splits, customarily ten: seeds 0 to 9.
"""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from engine.wording import counted
from imaging.cache import CacheOption
from reid.datasets.base import (
    CameraOption,
    Record,
    ReIDDataset,
    Splits,
    Transform,
    check_camera_option,
)
from reid.datasets.protocol import state_protocol
from reid.datasets.splitting import split_identities
from reid.datasets.tree import find_tree

__all__ = ["HalfSplitDataset", "View"]


class View(NamedTuple):
    """One image: the number of its person, its camera, and in which view it was taken."""

    path: str
    pid: int
    camera: int
    view: Literal["query", "gallery"]


class HalfSplitDataset(ReIDDataset):
    """People in two views; for the first arguments see :class:`ReIDDataset`.

    A subclass says in :meth:`views` which images there are.

    Args:
        seed: of the half that is trained on.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]  # what the data set's folder holds
    official: ClassVar[tuple[int, int, int]]  # images of train, query and gallery
    how: ClassVar[str] = "queries of camera a, gallery of camera b"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Any] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        seed: int = 0,
    ) -> None:
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    @classmethod
    @abstractmethod
    def views(cls, folder: Path) -> Iterator[View]:
        """All images below the data set's folder."""

    def parse(self) -> Splits:
        return self.parse_tree(self.root, camera=self.camera, seed=self.seed)

    @classmethod
    def parse_tree(
        cls, root: str | os.PathLike[str], *, camera: CameraOption = "auto", seed: int = 0
    ) -> Splits:
        """The lists of the split of ``seed``; people and cameras keep their numbers.

        Raises:
            FileNotFoundError: no such tree; one near is named.
            ValueError: names that are not those of the data set, or no person in both views.
        """
        check_camera_option(camera)
        folder = find_tree(root, cls.needed, title=f"a {cls.title} folder")
        images = list(cls.views(folder))
        seen = {v: {i.pid for i in images if i.view == v} for v in ("query", "gallery")}
        both = seen["query"] & seen["gallery"]
        if not both:
            raise ValueError(
                f"{str(folder)!r} shows nobody in both views ({len(seen['query']):,} people in "
                f"the first, {len(seen['gallery']):,} in the second); {cls.title}'s images carry "
                "the same number in both: unpack them again"
            )
        trained, _ = split_identities(map(str, both), seed=seed)
        lists: dict[str, list[Record]] = {"train": [], "query": [], "gallery": []}
        unused = seen["query"] - both
        for path, pid, camid, view in images:
            if pid not in unused:
                chosen = "train" if str(pid) in trained else view
                lists[chosen].append(Record(path, pid, camid if camera else None))
        train, query, gallery = (tuple(lists[s]) for s in ("train", "query", "gallery"))
        return Splits(
            name=cls.name,
            protocol=state_protocol(
                cls.name,
                (len(train), len(query), len(gallery)),
                cls.official,
                how=f"halved at random with seed {seed} (customary: the mean of seeds 0 to 9), "
                f"{cls.how}",
                what="images",
                camera=camera,
            ),
            train=train,
            query=query,
            gallery=gallery,
            root=str(folder),
            notes=(f"{counted(len(unused), 'identity')} of the first view alone left out",)
            if unused
            else (),
            official=cls.official,
        )
