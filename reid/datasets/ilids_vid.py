"""iLIDS-VID (Wang et al., "Person Re-Identification by Video Ranking", ECCV 2014), single-shot: 300
people, one image each in ``images/cam1/person001/`` and ``images/cam2/person001/``. The sequences
beside them are not used.
"""

from collections.abc import Iterator
from pathlib import Path

from imaging.files import list_images
from reid.datasets.half_split import HalfSplitDataset, View
from reid.registry import DATASETS

__all__ = ["ILIDSVID"]


@DATASETS.register_module()
class ILIDSVID(HalfSplitDataset):
    """iLIDS-VID, single-shot; see :class:`HalfSplitDataset`."""

    name = "ilids_vid"
    title = "iLIDS-VID"
    needed = ("images/cam1", "images/cam2")
    official = (300, 150, 150)
    how = "single-shot, queries of camera 1, gallery of camera 2"

    @classmethod
    def views(cls, folder: Path) -> Iterator[View]:
        for path in list_images(folder / "images/cam1", recursive=True):
            yield View(path, _person(path), 1, "query")
        for path in list_images(folder / "images/cam2", recursive=True):
            yield View(path, _person(path), 2, "gallery")


def _person(path: str) -> int:
    person = Path(path).parent.name.removeprefix("person")
    if not person.isdecimal():
        raise ValueError(
            f"{path!r} is not where iLIDS-VID has it, e.g. images/cam1/person001/cam1_person001.png"
        )
    return int(person)
