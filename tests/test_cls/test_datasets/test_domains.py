from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cls.datasets import DomainFolder


def test_all_domains_are_mixed(styles: Path) -> None:
    dataset = DomainFolder(styles, "all")
    assert len(dataset) == 60 and dataset.classes == ("cup", "pen")
    assert dataset.domain_names == ("art", "photo", "sketch")
    assert np.bincount(dataset.domains).tolist() == [20, 20, 20]
    for name, domain in zip(dataset.names, dataset.domains, strict=True):
        assert name.startswith(dataset.domain_names[domain] + "/")
    meta = dataset.metainfo
    assert meta["domain_names"] == ["art", "photo", "sketch"]
    assert meta["domain_images"] == [20, 20, 20]
    assert meta["protocol"] == "domain folders, domains art, photo, sketch, all images"


def test_one_domain_is_left_out(styles: Path) -> None:
    dataset = DomainFolder(styles, "all", exclude="photo")
    assert dataset.domain_names == ("art", "sketch") and dataset.domains.max() == 1
    assert "domains art, sketch (not photo)" in dataset.protocol
    test = DomainFolder(styles, "all", domains="photo")
    assert not set(dataset.names) & set(test.names) and len(test) == 20
    both = DomainFolder(styles, "all", domains=["sketch", "art"])
    assert both.names == dataset.names
    assert (
        DomainFolder(styles, "all", domains=["art", "photo"], exclude=["art"]).names == test.names
    )


def test_every_class_of_every_domain_is_parted(styles: Path) -> None:
    train, val = DomainFolder(styles), DomainFolder(styles, "val")
    assert (len(train), len(val)) == (54, 6)
    for dataset, each in ((train, 9), (val, 1)):
        pairs = dataset.domains * 2 + dataset.labels
        assert np.bincount(pairs).tolist() == [each] * 6
    assert sorted(train.names + val.names) == sorted(DomainFolder(styles, "all").names)
    assert "'val' of a split by domain and class (train fraction 0.9, seed 0)" in val.protocol


def test_the_parts_do_not_depend_on_the_domains_in_use(styles: Path) -> None:
    """Or a domain's training images could be tested on in the next run."""
    alone = DomainFolder(styles, "val", domains="photo").names
    mixed = [n for n in DomainFolder(styles, "val").names if n.startswith("photo/")]
    assert alone == mixed


def test_labels_agree_whichever_domains_are_used(styles: Path, make_images) -> None:
    make_images(styles, ["sketch/ant/0.jpg", "sketch/ant/1.jpg"])
    with pytest.raises(
        ValueError, match="domain 'sketch' has a folder for class 'ant', which most"
    ):
        DomainFolder(styles, domains="photo")
    photo = DomainFolder(styles, "all", domains="photo", allow_missing_classes=True)
    assert photo.classes == ("ant", "cup", "pen")
    assert photo.labels.tolist() == [1] * 10 + [2] * 10


def test_domains_that_differ_are_explained(styles: Path) -> None:
    (styles / "sketch/pen").rename(styles / "sketch/Pen")
    with pytest.raises(ValueError) as caught:
        DomainFolder(styles)
    text = str(caught.value)
    assert "domain 'sketch' has a folder for class 'Pen', which most others lack" in text
    assert "'art'" not in text
    assert "domain 'sketch' has no folder for class 'pen'" in text
    assert "permit it with allow_missing_classes=True" in text


def test_an_empty_class_is_refused(styles: Path) -> None:
    for file in (styles / "photo/cup").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="'photo' has no image of class 'cup': the folder is"):
        DomainFolder(styles)


def test_unknown_and_no_domains(styles: Path) -> None:
    with pytest.raises(ValueError, match=r"domains: .* no domain 'foto'; it has art, photo, sk"):
        DomainFolder(styles, domains=["art", "foto"])
    with pytest.raises(ValueError, match=r"exclude: .* no domain 'x'"):
        DomainFolder(styles, exclude="x")
    with pytest.raises(ValueError, match="no domain is left"):
        DomainFolder(styles, domains="art", exclude="art")


def test_other_folders_are_noted_and_a_domain_is_told_from_domains(styles: Path) -> None:
    (styles / "splits").mkdir()
    assert DomainFolder(styles).notes == ("no class folders in 'splits', left out",)
    with pytest.raises(ValueError, match=r"holds no domains.*'art' is a domain: use"):
        DomainFolder(styles / "art")
