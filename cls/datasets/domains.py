"""The same classes in several domains: Office-Home, PACS, VLCS and any ``<domain>/<class>/`` tree.

Several domains are trained on as one mixed set, or all but one, which is then tested on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cls.datasets.base import ClassificationDataset, Listing
from cls.datasets.class_tree import (
    ClassFiles,
    check_classes,
    class_files,
    labelled,
    ordered,
    subfolders,
)
from cls.datasets.splitting import first_part
from cls.registry import DATASETS
from engine.wording import some
from imaging.files import existing_folder
from imaging.samples import Transform

__all__ = ["DomainFolder"]


@DATASETS.register_module()
class DomainFolder(ClassificationDataset):
    """Images in ``<root>/<domain>/<class>/``; see :class:`ClassificationDataset` for the first
    arguments.

    The classes are those of all domains under ``root``, whichever are used, so that labels agree
    between a run that trains on some domains and one that tests on another.

    Args:
        split: ``'train'`` or ``'val'``, a part of every class of every domain, or ``'all'``.
        domains: the domain, or the domains, to use; None: all of them.
        exclude: a domain, or domains, to leave out: ``exclude="sketch"`` trains on the others.
        fraction: of every class in every domain for ``'train'``.
        seed: another choice of that part.
        allow_missing_classes: permit that a domain lacks some classes.

    Attributes:
        domains: (N,) int64, indices of ``domain_names``, the domains in use by name.

    Raises:
        ValueError: domains whose class folders differ, or a domain that is not there.
    """

    SPLITS = ("train", "val", "all")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        domains: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        fraction: float = 0.9,
        seed: int = 0,
        allow_missing_classes: bool = False,
    ) -> None:
        self.domains_to_use = domains
        self.exclude = exclude
        self.fraction = fraction
        self.seed = seed
        self.allow_missing_classes = allow_missing_classes
        self.domains = np.zeros(0, np.int64)
        self.domain_names: tuple[str, ...] = ()
        super().__init__(root, split, transforms)

    def parse(self) -> Listing:
        folder = existing_folder(self.root)
        notes: list[str] = []
        places = _domain_files(folder, notes)
        if not self.allow_missing_classes:
            check_classes(places, "domain", "allow_missing_classes=True")
        classes = ordered(name for files in places.values() for name in files)
        self.domain_names = _chosen(folder, places, self.domains_to_use, self.exclude)
        names: list[str] = []
        labels: list[np.ndarray] = []
        for domain in self.domain_names:
            found, label = labelled(places[domain], classes)
            names += found
            labels.append(label)
        self.domains = np.repeat(np.arange(len(labels), dtype=np.int64), [len(x) for x in labels])
        label = np.concatenate(labels)
        how = "all images"
        if self.split != "all":
            groups = zip(self.domains.tolist(), label.tolist(), strict=True)
            part = first_part(names, groups, self.fraction, self.seed)
            part = part if self.split == "train" else ~part
            names = [name for name, inside in zip(names, part.tolist(), strict=True) if inside]
            label, self.domains = label[part], self.domains[part]
            how = (
                f"{self.split!r} of a split by domain and class (train fraction "
                f"{self.fraction:g}, seed {self.seed})"
            )
        unused = [name for name in places if name not in self.domain_names]
        used = f"domains {', '.join(self.domain_names)}" + (
            f" (not {', '.join(unused)})" if unused else ""
        )
        return Listing(
            name=folder.resolve().name,
            protocol=f"domain folders, {used}, {how}",
            classes=classes,
            labels=label,
            names=names,
            root=str(folder),
            notes=tuple(notes),
            more={  # and not a number for every image: manifests list what stands here
                "domain_names": list(self.domain_names),
                "domain_images": np.bincount(
                    self.domains, minlength=len(self.domain_names)
                ).tolist(),
            },
        )


def _domain_files(folder: Path, notes: list[str]) -> dict[str, ClassFiles]:
    """Domain -> class -> files; folders without any class folder are left out with a note."""
    there = subfolders(folder)
    places = {p.name: class_files(p, folder, notes) for p in there if subfolders(p)}
    if left := [p.name for p in there if p.name not in places]:
        notes.append(f"no class folders in {some(map(repr, left))}, left out")
    if not places:
        raise ValueError(
            f"{str(folder)!r} holds no domains; expected <domain>/<class>/<file> with images"
            + (
                f". It has {some(map(repr, left), 3)} with no folders inside: if these are the "
                f"classes, {folder.absolute().name!r} is a domain: use {str(folder.parent)!r}, or "
                "cls.ClassFolder for this one"
                if left
                else ""
            )
        )
    return places


def _chosen(
    folder: Path,
    places: Iterable[str],
    domains: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
) -> tuple[str, ...]:
    """The domains in use, by name."""
    there = sorted(places)
    wanted = there if domains is None else _listed(domains)
    unwanted = [] if exclude is None else _listed(exclude)
    for option, names in (("domains", wanted), ("exclude", unwanted)):
        if unknown := [name for name in names if name not in there]:
            raise ValueError(
                f"{option}: {str(folder)!r} has no domain {some(map(repr, unknown))}; it has "
                f"{', '.join(there)}"
            )
    chosen = tuple(name for name in there if name in wanted and name not in unwanted)
    if not chosen:
        raise ValueError(
            f"no domain is left of {', '.join(there)} with domains={domains!r} and "
            f"exclude={exclude!r}"
        )
    return chosen


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
