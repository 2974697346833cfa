"""Training on several data sets at once, as if they were one.

Identities and cameras are kept apart even if two sets use the same numbers: each set's identities
and cameras go on where those of the set before it end.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from engine.wording import counted, distinct, some
from imaging.cache import CacheOption
from reid.datasets.base import CameraOption, Record, ReIDDataset, Splits, Transform
from reid.registry import DATASETS

__all__ = ["JointTraining", "join"]


@DATASETS.register_module()
class JointTraining(ReIDDataset):
    """The training images of several sets; ``transforms``, ``cache``: see :class:`ReIDDataset`.

    Args:
        datasets: configs of two or more data sets, without split, transforms and cache.
        names: of the sets, all different; None: their own, numbered where two are the same.
        split: 'train', which is all there is: test on each set by itself.
        camera: None ignores the camera labels of all sets.

    Attributes:
        sets: the data sets, in order.
        names: of the sets.
        labels: (N,) int64, 0 .. number of identities of all sets - 1; ``pids`` are the same.
        camids: (N,) int64, no number stands for cameras of two sets; -1 where there is no label.
        domains: (N,) int64, the place of an image's set among ``sets``.
    """

    def __init__(
        self,
        datasets: Sequence[Mapping[str, Any]],
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        names: Sequence[str] | None = None,
        split: str = "train",
        camera: CameraOption = "auto",
        cache: CacheOption = None,
    ) -> None:
        if split != "train":
            raise ValueError(
                f"JointTraining has the split 'train' alone, got {split!r}: test on each data set "
                "by itself, as a test_dataloader of several domains does"
            )
        if isinstance(datasets, Mapping | str) or len(datasets) < 2:
            raise ValueError(
                "JointTraining: datasets must be a list of two or more configs, e.g. "
                "[dict(type='reid.Market1501', root=...), dict(type='reid.MSMT17', root=...)]; "
                "a single data set needs no JointTraining"
            )
        self.sets = tuple(_build(config, camera) for config in datasets)
        self.names = _names(self.sets, names)
        roots = [str(dataset.root.expanduser().absolute()) for dataset in self.sets]
        super().__init__(os.path.commonpath(roots), "train", transforms, camera=camera, cache=cache)
        sizes = [len(dataset) for dataset in self.sets]
        self.domains = np.repeat(np.arange(len(self.sets), dtype=np.int64), sizes)

    def parse(self) -> Splits:
        return join([dataset.splits for dataset in self.sets], self.names, self.root)

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """As for one set, with those of the sets under ``sets``, by name.

        The fingerprint is that of the sets' names and fingerprints, in order.
        """
        sets = {
            name: {key: value for key, value in dataset.metainfo.items() if key != "trials"}
            for name, dataset in zip(self.names, self.sets, strict=True)
        }
        text = "".join(f"{name}\0{of_set['fingerprint']}\n" for name, of_set in sets.items())
        cameras = set(self.camids.tolist()) - {-1}
        return {
            "name": self.splits.name,
            "split": self.split,
            "protocol": self.splits.protocol,
            "fingerprint": hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(),
            "num_images": len(self.records),
            "num_identities": self.num_identities,
            "num_cameras": len(cameras),
            "num_query": 0,
            "num_train_images": len(self.records),
            "num_query_images": 0,
            "num_gallery_images": 0,
            "num_trials": 0,
            "trials": (),
            "num_sets": len(sets),
            "sets": sets,
        }


def join(parts: Sequence[Splits], names: Sequence[str], root: Path) -> Splits:
    """The training images of ``parts`` as one list, identities and cameras numbered on.

    Raises:
        ValueError: two sets hold the same images, which would then be two identities each.
    """
    _refuse_shared(parts, names)
    train: list[Record] = []
    identities: dict[int, str] = {}
    cameras: dict[int, str] = {}
    for part, name in zip(parts, names, strict=True):
        pids = {
            pid: len(identities) + k for k, pid in enumerate(sorted({r.pid for r in part.train}))
        }
        found = sorted({r.camid for r in part.train if r.camid is not None})
        camids: dict[int | None, int | None] = {None: None}
        camids |= {camid: len(cameras) + k for k, camid in enumerate(found)}
        train += [Record(r.path, pids[r.pid], camids[r.camid]) for r in part.train]
        identities |= {new: f"{name}: {part.identities.get(pid, pid)}" for pid, new in pids.items()}
        cameras |= {
            len(cameras) + k: f"{name}: {part.cameras.get(camid, camid)}"
            for k, camid in enumerate(found)
        }
    return Splits(
        name=" + ".join(names),
        protocol="joint training on "
        + "; ".join(f"{name} ({part.protocol})" for name, part in zip(names, parts, strict=True)),
        train=tuple(train),
        query=(),
        gallery=(),
        root=str(root),
        identities=identities,
        cameras=cameras,
    )


def _build(config: Mapping[str, Any], camera: CameraOption) -> ReIDDataset:
    if taken := sorted({"split", "transforms", "cache"} & config.keys()):
        raise ValueError(
            f"JointTraining: {' and '.join(taken)} cannot differ between the sets; leave "
            f"{'it' if len(taken) == 1 else 'them'} out of {dict(config)!r}, and give transforms "
            "and cache to JointTraining itself"
        )
    options = {} if camera else {"camera": None}
    dataset = DATASETS.build({**config, **options, "split": "train"})
    if not isinstance(dataset, ReIDDataset):
        raise TypeError(f"JointTraining joins data sets of this room, got {type(dataset).__name__}")
    return dataset


def _names(sets: Sequence[ReIDDataset], names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return tuple(distinct([dataset.splits.name for dataset in sets]))
    if len(names) != len(sets) or len(set(names)) != len(names):
        raise ValueError(
            f"JointTraining: {len(sets)} data sets need as many different names, got {list(names)}"
        )
    return tuple(names)


def _refuse_shared(parts: Sequence[Splits], names: Sequence[str]) -> None:
    paths = [{os.path.abspath(r.path) for r in part.train} for part in parts]  # noqa: PTH100
    for first, second in combinations(range(len(parts)), 2):
        if shared := paths[first] & paths[second]:
            raise ValueError(
                f"{names[first]} and {names[second]} share {counted(len(shared), 'image')}, "
                "whose people would be trained on as two identities each: "
                f"{some(sorted(shared), 2)}; give each data set once"
            )
