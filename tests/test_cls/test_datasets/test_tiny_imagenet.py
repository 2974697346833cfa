from __future__ import annotations

from pathlib import Path

import pytest

from cls.datasets import TinyImageNet

WNIDS = ("n01443537", "n01629819", "n01641577")


@pytest.fixture
def tiny(tmp_path: Path, make_images) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS:
        make_images(root / "train" / wnid / "images", [f"{wnid}_{i}.jpg" for i in range(2)])
    make_images(root / "val/images", [f"val_{i}.jpg" for i in range(3)])
    (root / "val/val_annotations.txt").write_text(
        "".join(f"val_{i}.jpg\t{WNIDS[2 - i]}\t0\t32\t44\t62\n" for i in range(3))
    )
    (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    (root / "words.txt").write_text(
        "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn01629819\tfrog\n"
        "n01641577\tfrog, bull\n"
    )
    return root


def test_both_splits_are_read(tiny: Path) -> None:
    train, val = TinyImageNet(tiny), TinyImageNet(tiny.parent, "val")
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert val.labels.tolist() == [2, 1, 0]
    assert val[0]["path"] == str(tiny / "val/images/val_0.jpg")
    assert train.classes == val.classes == ("goldfish", "frog (n01629819)", "frog (n01641577)")
    assert train.protocol == "6 of 100,000 train images, 3 classes in the order of wnids"


def test_validation_images_sorted_into_folders(tiny: Path, make_images) -> None:
    for file in (tiny / "val/images").iterdir():
        file.unlink()
    (tiny / "val/images").rmdir()
    make_images(tiny / "val", [f"{wnid}/images/0.jpg" for wnid in WNIDS])
    (tiny / "words.txt").unlink()
    val = TinyImageNet(tiny, "val")
    assert val.labels.tolist() == [0, 1, 2] and val.classes == WNIDS


def test_what_does_not_fit_is_refused(tiny: Path) -> None:
    annotations = tiny / "val/val_annotations.txt"
    text = annotations.read_text()
    annotations.write_text(text + "val_3.jpg\tn00000000\n\n")
    with pytest.raises(ValueError, match=r"2 lines differ \(line 4: 'val_3"):
        TinyImageNet(tiny, "val")
    annotations.write_text(text + f"val_3.jpg\t{WNIDS[0]}\n")
    with pytest.raises(FileNotFoundError, match=r"names 4 files, of which 1 are not .*line 4"):
        TinyImageNet(tiny, "val")
    annotations.unlink()
    with pytest.raises(FileNotFoundError, match="val_annotations"):
        TinyImageNet(tiny, "val")
    (tiny / "wnids.txt").write_text("\n".join(WNIDS[:2]))
    with pytest.raises(ValueError, match=r"wnids\.txt' has no folder for class 'n01641577'"):
        TinyImageNet(tiny)
    (tiny / "wnids.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no wnids\.txt \(it holds train, val, words"):
        TinyImageNet(tiny)
