"""Published data sets in small: the official trees and names, with tiny images."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.test_imaging.conftest import encode, picture

_JPEG = encode(picture(0, (8, 4)))


def write_images(root: Path, names: Iterable[str]) -> None:
    """Small readable files, no two with the same bytes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_JPEG + f"{root.name}/{name}".encode())  # decoders ignore what follows


def write_lines(file: Path, lines: Iterable[str], end: str = "\n") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}{end}" for line in lines), newline="")


def make_market1501(root: Path) -> Path:
    write_images(
        root,
        (
            "bounding_box_train/0002_c1s1_000451_03.jpg",
            "bounding_box_train/0002_c2s1_000451_03.jpg",
            "bounding_box_train/0007_c1s1_000451_03.jpg",
            "query/0005_c1s1_000451_00.jpg",
            "bounding_box_test/0005_c2s1_000451_00.jpg",
            "bounding_box_test/0000_c2s1_000451_00.jpg",
        ),
    )
    return root


def make_dukemtmc(root: Path) -> Path:
    write_images(
        root,
        (
            "bounding_box_train/0001_c2_f0046182.jpg",
            "bounding_box_train/0001_c8_f0046302.jpg",
            "bounding_box_train/0003_c1_f0000001.jpg",
            "query/0005_c2_f0046985.jpg",
            "bounding_box_test/0005_c5_f0051341.jpg",
            "bounding_box_test/7139_c2_f0211994.jpg",
        ),
    )
    return root


def make_cuhk03_np(root: Path, boxes: str = "labeled") -> Path:
    write_images(
        root / boxes,
        (
            "bounding_box_train/0001_c1_1.png",
            "bounding_box_train/0001_c2_6.png",
            "bounding_box_train/0004_c1_2.png",
            "query/0003_c1_1.png",
            "bounding_box_test/0003_c2_8.png",
        ),
    )
    return root


# camera pair, person, view, image; people 1 and 2 of pair 1 are trained on
CUHK03_TRAIN = ("1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png", "1_002_2_07.png")
CUHK03_TEST = (
    *("1_003_1_01.png", "1_003_1_02.png", "1_003_2_06.png", "1_003_2_07.png", "1_003_2_08.png"),
    *("2_001_1_01.png", "2_001_2_06.png", "2_001_2_09.png"),
)


def make_cuhk03(root: Path) -> Path:
    """As torchreid extracts it: its lists begin at identity 0 in train and in test."""

    def entries(names: Iterable[str], spelt: str) -> list[list]:
        people = {}
        return [
            [f"/home/someone/cuhk03/images_{spelt}/{n}", people.setdefault(n[:5], len(people)), 0]
            for n in names
        ]

    for spelt in ("labeled", "detected"):
        write_images(root / f"images_{spelt}", (*CUHK03_TRAIN, *CUHK03_TEST))
        train, test = entries(CUHK03_TRAIN, spelt), entries(CUHK03_TEST, spelt)
        new = {"train": train, "query": test[:1] + test[5:6], "gallery": test[2:5] + test[6:]}
        other = {"train": test, "query": train, "gallery": train}
        classic = {"train": train, "query": test, "gallery": test}
        (root / f"splits_new_{spelt}.json").write_text(json.dumps([new]))
        (root / f"splits_classic_{spelt}.json").write_text(json.dumps([classic, other]))
    return root


def make_msmt17(root: Path, version: str = "V1") -> Path:
    train, test = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}[version]
    lists = {
        "train": ("0000/0000_000_01_0303morning_0008_0.jpg 0", "0000/0000_001_14_0303.jpg 0",
                  "0001/0001_000_05_0303noon_0008_0.jpg 1"),
        "val": ("0002/0002_000_15_0303noon_0008_0.jpg 2",),
        "query": ("0000/0000_000_03_0303morning_0015_0.jpg 0",),
        "gallery": ("0000/0000_001_04_0303morning_0015_1.jpg 0",
                    "0001/0001_000_04_0303morning_0015_1.jpg 1"),
    }  # fmt: skip
    for name, lines in lists.items():
        write_lines(root / f"list_{name}.txt", lines)
        folder = train if name in ("train", "val") else test
        write_images(root / folder, (line.split()[0] for line in lines))
    return root


def make_veri776(root: Path) -> Path:
    write_images(
        root,
        (
            "image_train/0001_c001_00016450_0.jpg",
            "image_train/0001_c020_00016460_0.jpg",
            "image_train/0003_c001_00016450_0.jpg",
            "image_query/0002_c002_00030600_0.jpg",
            "image_test/0002_c002_00030600_0.jpg",
            "image_test/0002_c003_00030670_1.jpg",
        ),
    )
    write_lines(root / "name_train.txt", ["0001_c001_00016450_0.jpg"])
    return root


def make_vehicleid(root: Path, per_vehicle: int = 4, end: str = "\n") -> Path:
    """Two vehicles to train on; five to test on, of which the last has a single image."""
    lists = {
        "train_list.txt": [(n, n // 3) for n in range(6)],
        "test_list_800.txt": [(50 + k, 100 + k // per_vehicle) for k in range(4 * per_vehicle)]
        + [(49, 99)],
    }
    for name, rows in lists.items():
        lines = (f"{image:07d} {vehicle}" for image, vehicle in rows)
        write_lines(root / "train_test_split" / name, lines, end)
        write_images(root / "image", (f"{image:07d}.jpg" for image, _ in rows))
    return root


def make_veriwild(root: Path) -> Path:
    lists = {
        "train_list.txt": ("00001/000001", "00001/000002", "00002/000003"),
        "test_3000_query.txt": ("00009/000010",),
        "test_3000.txt": ("00009/000011", "00009/000012", "00010/000013"),
    }
    names = [name for lines in lists.values() for name in lines]
    for file, lines in lists.items():
        write_lines(root / "train_test_split" / file, lines)
    write_lines(
        root / "train_test_split/vehicle_info.txt",
        ["id/image;camera id;time;model;type;color"]
        + [f"{name};{10 + k};2018-01-01;m;t;c" for k, name in enumerate(names)],
    )
    write_images(root / "images", (f"{name}.jpg" for name in names))
    return root


def make_viper(root: Path, people: int = 6) -> Path:
    write_images(root / "cam_a", (f"{n:03d}_45.bmp" for n in range(people)))
    write_images(root / "cam_b", (f"{n:03d}_90.bmp" for n in range(people)))
    return root


def make_prid2011(root: Path) -> Path:
    """Four people in both, one more in a, two more in b of the same numbers."""
    for camera, more in (("cam_a", (201,)), ("cam_b", (201, 202))):
        numbers = (1, 2, 3, 4, *more)
        write_images(root / "single_shot" / camera, (f"person_{n:04d}.png" for n in numbers))
    return root


def make_grid(root: Path) -> Path:
    """Four pairs and two distractors."""
    write_images(root / "probe", (f"{n:04d}_{n}_25004_107.jpeg" for n in (1, 2, 3, 4)))
    write_images(root / "gallery", (f"{n:04d}_{9 - n}_25023_116.jpeg" for n in (1, 2, 3, 4)))
    write_images(root / "gallery", ("0000_5_10303_58.jpeg", "0000_6_10303_59.jpeg"))
    return root


def make_ilids_vid(root: Path) -> Path:
    for camera in ("cam1", "cam2"):
        write_images(
            root / "images" / camera,
            (f"person{n:03d}/{camera}_person{n:03d}.png" for n in (1, 2, 9, 319)),
        )
    return root


def make_folder(root: Path) -> Path:
    write_images(root, (f"{who}/{k}.jpg" for who in ("anna", "bert", "carl") for k in range(3)))
    return root


def make_flat(root: Path) -> Path:
    write_images(root, (f"car_{n:04d}_cam{c}.jpg" for n in range(4) for c in (1, 2)))
    return root


def make_csv(root: Path) -> Path:
    make_folder(root / "photos")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.jpg"))
    lines = (f"{name},{name.split('/')[1]}" for name in names)
    write_lines(root / "list.csv", ["path,pid", *lines])
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "market1501": make_market1501,
    "folder": make_folder,
    "csv": make_csv,
    "flat": make_flat,
    "dukemtmc": make_dukemtmc,
    "cuhk03": make_cuhk03_np,
    "msmt17": make_msmt17,
    "veri776": make_veri776,
    "vehicleid": make_vehicleid,
    "veriwild": make_veriwild,
    "viper": make_viper,
    "prid2011": make_prid2011,
    "grid": make_grid,
    "ilids_vid": make_ilids_vid,
}
OPTIONS: dict[str, dict[str, str]] = {"flat": {"identity_pattern": "^(.+)_cam"}}
