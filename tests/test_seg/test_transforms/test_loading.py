"""Reading images and labels: right pixels from every kind of file, and refusals that name it."""

from __future__ import annotations

import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from seg.label_spaces import IGNORE, UNKNOWN, label_table
from seg.transforms.loading import (
    LabelError,
    LoadImage,
    LoadLabels,
    UnreadableFileError,
    apply_table,
    has_unknown,
    image_size,
    read_image,
    read_labels,
)


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 35, (13, 18), dtype=np.uint8)


def save_palette(path: Path, ids: np.ndarray, **options: object) -> Path:
    image = Image.fromarray(ids)
    image.putpalette(np.random.default_rng(1).integers(0, 255, 768, dtype=np.uint8).tolist())
    image.save(path, **options)
    return path


def png(width: int, height: int, depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG by hand, from the specification."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(name.encode(), body) for name, body in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + middle
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_palette_indices_and_not_colours(tmp_path: Path, ids: np.ndarray) -> None:
    path = save_palette(tmp_path / "a.png", ids)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim == 3  # the classic failure
    labels = read_labels(path, "gta5")
    assert labels.dtype == np.uint8 and np.array_equal(labels, ids)
    assert np.array_equal(labels, np.array(Image.open(path)))


@pytest.mark.parametrize("options", [{"transparency": 3}, {"dpi": (72, 72)}, {"optimize": True}])
def test_palette_files_with_other_chunks(
    tmp_path: Path, ids: np.ndarray, options: dict[str, object]
) -> None:
    path = save_palette(tmp_path / "a.png", ids, **options)
    assert np.array_equal(read_labels(path, "gta5"), ids)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 3])
def test_fewer_than_8_bits_are_not_stretched(tmp_path: Path, depth: int, colour: int) -> None:
    ids = (np.arange(8 * 16) % 2**depth).reshape(8, 16).astype(np.uint8)
    bits = (ids[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = b"".join(b"\0" + np.packbits(row.reshape(-1)).tobytes() for row in bits)
    palette = {"PLTE": bytes(range(3 * 2**depth))} if colour == 3 else {}
    path = tmp_path / "a.png"
    path.write_bytes(png(16, 8, depth, colour, rows, **palette))
    assert np.array_equal(read_labels(path, "gta5"), ids)


def test_grey_and_16_bits(tmp_path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(tmp_path / "grey.png")
    assert np.array_equal(read_labels(tmp_path / "grey.png", "cityscapes"), ids)
    wide = ids.astype(np.uint16) * 1000
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    labels = read_labels(tmp_path / "wide.png")
    assert labels.dtype == np.uint16 and np.array_equal(labels, wide)


def test_synthia_holds_the_class_in_its_first_channel(tmp_path: Path, ids: np.ndarray) -> None:
    classes = (ids % 23).astype(np.uint16)
    rgb = np.stack([classes, classes * 0 + 777, classes * 0], -1)
    # by hand: that the first channel is stored first does not rest on OpenCV's order
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    path = tmp_path / "a.png"
    path.write_bytes(png(rgb.shape[1], rgb.shape[0], 16, 2, rows))
    labels = read_labels(path, "synthia")
    assert labels.dtype == np.uint16 and np.array_equal(labels, classes)
    for source in ("gta5", None):
        with pytest.raises(LabelError, match=r"16-bit RGB.*seg\.Synthia"):
            read_labels(path, source)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "frankfurt_gtFine_color.png"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(LabelError, match=r"gtFine_color\.png.*colours, not class ids") as caught:
        read_labels(path, "cityscapes")
    assert "original label file" in str(caught.value)
    with pytest.raises(LabelError):
        read_labels(path)


def test_a_palette_file_that_opencv_saved_again_is_refused(tmp_path: Path, ids: np.ndarray) -> None:
    path = save_palette(tmp_path / "a.png", ids)
    cv2.imwrite(str(path), cv2.imread(str(path)))
    with pytest.raises(LabelError, match="saved again by OpenCV"):
        read_labels(path, "gta5")


def test_wrong_numbers_of_bits(tmp_path: Path, ids: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "x_instanceIds.png"), ids.astype(np.uint16))
    with pytest.raises(LabelError, match=r"x_instanceIds\.png.*16-bit.*labelIds"):
        read_labels(tmp_path / "x_instanceIds.png", "cityscapes")
    save_palette(tmp_path / "p.png", ids)
    with pytest.raises(LabelError, match=r"8-bit palette.*GT/LABELS"):
        read_labels(tmp_path / "p.png", "synthia")


def test_labels_in_other_formats(tmp_path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids).save(tmp_path / "a.bmp")
    Image.fromarray(ids).save(tmp_path / "a.tif")
    assert np.array_equal(read_labels(tmp_path / "a.bmp", "gta5"), ids)
    assert np.array_equal(read_labels(tmp_path / "a.tif", "gta5"), ids)
    with pytest.raises(LabelError, match="8 bits"):
        read_labels(tmp_path / "a.tif", "synthia")
    Image.new("RGB", (3, 3)).save(tmp_path / "b.bmp")
    with pytest.raises(LabelError, match="colours"):
        read_labels(tmp_path / "b.bmp", "gta5")
    Image.fromarray(ids).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "a.png")
    with pytest.raises(LabelError, match=r"JPEG.*lossy"):
        read_labels(tmp_path / "a.png", "gta5")


def damaged(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    flipped = bytearray(data)
    middle = data.index(b"IDAT") + 8
    for k in range(12):
        flipped[middle + k] ^= 0x5A
    return {
        "empty": b"",
        "header only": data[:20],
        "half": data[: len(data) // 2],
        "no end": data[:-12],
        "flipped": bytes(flipped),
        "web page": b"<html>404</html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1",
        "zip": b"PK\x03\x04" + data,
        "zeros": bytes(200),
    }


@pytest.mark.parametrize("kind", ["grey", "palette"])
def test_damaged_labels_are_named(tmp_path: Path, ids: np.ndarray, kind: str) -> None:
    path = tmp_path / "good.png"
    if kind == "grey":
        Image.fromarray(ids).save(path)
    else:
        save_palette(path, ids)
    for name, data in damaged(path).items():
        bad = tmp_path / "bad.png"
        bad.write_bytes(data)
        with pytest.raises(UnreadableFileError, match=r"bad\.png"):
            read_labels(bad, "gta5")
            pytest.fail(name)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        read_labels(tmp_path / "none.png", "gta5")
    with pytest.raises(UnreadableFileError, match="directory"):
        read_labels(tmp_path, "gta5")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged_images_are_named(tmp_path: Path, suffix: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    good = tmp_path / f"good{suffix}"
    Image.fromarray(image).save(good)
    data = good.read_bytes()
    bad = tmp_path / f"bad{suffix}"
    for content in (b"", data[: len(data) // 2], data[:-12] if suffix == ".png" else data[:-2]):
        bad.write_bytes(content)
        with pytest.raises(UnreadableFileError, match="bad") as caught:
            read_image(bad)
        with pytest.raises(UnreadableFileError):
            LoadImage().transform({"img_path": str(bad)})
        again = pickle.loads(pickle.dumps(caught.value))  # it crosses a worker's border
        assert str(again) == str(caught.value)


def test_images(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 15, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    assert np.array_equal(read_image(path), image)
    results = LoadImage().transform({"img_path": str(path)})
    assert np.array_equal(results["img"], image[..., ::-1]) and results["img"].dtype == np.uint8
    assert results["img_shape"] == results["ori_shape"] == (12, 15)
    assert image_size(path) == (12, 15)


def test_what_the_bytes_are_counts_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 7), (200, 10, 30)).save(path, format="JPEG")
    assert read_image(path).shape == (7, 9, 3)
    assert abs(read_image(path).astype(int)[0, 0] - (200, 10, 30)).max() < 4
    path.write_bytes(path.read_bytes() + b"camera's own bytes")
    assert read_image(path).shape == (7, 9, 3)


def test_the_same_as_mmcv_loads(tmp_path: Path) -> None:
    from mmcv.transforms import LoadImageFromFile

    image = np.random.default_rng(0).integers(0, 255, (12, 15, 3), dtype=np.uint8)
    for name, picture in (
        ("a.png", Image.fromarray(image)),
        ("b.jpg", Image.fromarray(image)),
        ("grey.png", Image.fromarray(image[..., 0])),
        ("alpha.png", Image.fromarray(np.dstack([image, image[..., 0]]))),
    ):
        picture.save(tmp_path / name)
        info = {"img_path": str(tmp_path / name)}
        ours, theirs = LoadImage()(dict(info)), LoadImageFromFile()(dict(info))
        assert np.array_equal(ours["img"], theirs["img"])
        assert {k: v for k, v in ours.items() if k != "img"} == {
            k: v for k, v in theirs.items() if k != "img"
        }


def test_image_size_follows_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 7)).save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (9, 7)
    (tmp_path / "b.jpg").write_bytes(b"nothing")
    with pytest.raises(UnreadableFileError, match=r"b\.jpg"):
        image_size(tmp_path / "b.jpg")
    with pytest.raises(UnreadableFileError, match="does not exist"):
        image_size(tmp_path / "c.jpg")


@pytest.mark.parametrize("shape", [(8, 10), (7, 9), (1, 1), (3, 1), (1, 6), (0, 4), (33, 67)])
def test_the_lookup_equals_indexing(shape: tuple[int, int]) -> None:
    ids = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    table = label_table("cityscapes", "cityscapes19")
    before = ids.copy()
    mapped = apply_table(ids, "cityscapes", "cityscapes19")
    assert mapped.dtype == np.uint8 and mapped.shape == shape and mapped.flags.writeable
    assert np.array_equal(mapped, table[ids]) and np.array_equal(ids, before)
    for view in (ids.T, ids[::2], ids[:, 1:]):  # not contiguous
        assert np.array_equal(apply_table(view, "cityscapes", "cityscapes19"), table[view])
    wide = np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)
    narrow = wide % 23  # as SYNTHIA's are
    for many in (wide, narrow):
        assert np.array_equal(
            apply_table(many, "synthia", "cityscapes19"),
            label_table("synthia", "cityscapes19")[many],
        )
        expected = np.where(many < 256, table[many % 256], UNKNOWN)
        assert np.array_equal(apply_table(many, "cityscapes", "cityscapes19"), expected)


def test_has_unknown() -> None:
    labels = np.full((5, 7), IGNORE, np.uint8)
    assert not has_unknown(labels) and not has_unknown(labels[:0])
    labels[4, 6] = UNKNOWN
    assert has_unknown(labels) and has_unknown(labels.T) and not has_unknown(labels[:4])


def test_the_lookup_in_place() -> None:
    table = label_table("cityscapes", "cityscapes19")
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    before = ids.copy()
    fixed = ids.copy()
    fixed.setflags(write=False)
    for kept in (ids[:, ::2], fixed):  # not contiguous, not writeable: left as they are
        was = kept.copy()
        mapped = apply_table(kept, "cityscapes", "cityscapes19", in_place=True)
        assert np.array_equal(mapped, table[was]) and np.array_equal(kept, was)
    assert apply_table(ids, "cityscapes", "cityscapes19", in_place=True) is ids
    assert np.array_equal(ids, table[before])


def sample(path: Path, source: str = "gta5", **more: object) -> dict[str, object]:
    return {"seg_map_path": str(path), "source": source, "space": "cityscapes19", **more}


def test_load_labels(tmp_path: Path, ids: np.ndarray) -> None:
    path = save_palette(tmp_path / "a.png", ids)
    results = LoadLabels()(sample(path, seg_fields=[]))
    labels = results["gt_seg_map"]
    assert np.array_equal(labels, label_table("gta5", "cityscapes19")[ids])
    assert labels.dtype == np.uint8 and labels.flags.writeable
    assert results["seg_fields"] == ["gt_seg_map"]
    assert LoadLabels()({"img_path": "x"}) == {"img_path": "x"}  # an image alone passes through
    with pytest.raises(KeyError, match=r"LoadLabels needs results\['source'\]"):
        LoadLabels()({"seg_map_path": str(path)})


@pytest.mark.parametrize("value", [35, 200, 254])
def test_unknown_ids_are_named_with_their_file(tmp_path: Path, ids: np.ndarray, value: int) -> None:
    ids[2, 3:5] = value
    path = save_palette(tmp_path / "00007.png", ids)
    with pytest.raises(LabelError) as caught:
        LoadLabels()(sample(path))
    text = str(caught.value)
    assert "00007.png" in text and f"{value} (2 pixels)" in text and "'gta5'" in text
    assert "0..34" in text and "unknown='ignore'" in text
    labels = LoadLabels(unknown="ignore")(sample(path))["gt_seg_map"]
    assert (labels[2, 3:5] == IGNORE).all() and not (labels == UNKNOWN).any()


def test_unknown_ids_between_known_ones(tmp_path: Path) -> None:
    # 255 is defined and larger than the undefined 34
    Image.fromarray(np.array([[7, 34], [255, 8]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(LabelError, match=r"34 \(1 pixels\).*0\.\.33, 255"):
        LoadLabels()(sample(tmp_path / "a.png", "cityscapes"))


def test_image_and_label_of_different_sizes(tmp_path: Path, ids: np.ndarray) -> None:
    path = save_palette(tmp_path / "15188.png", ids)
    image = {
        "img": np.zeros((13, 20, 3), np.uint8),
        "ori_shape": (13, 20),
        "img_path": "i/15188.png",
    }
    with pytest.raises(LabelError) as caught:
        LoadLabels()(sample(path, **image))
    text = str(caught.value)
    assert "i/15188.png" in text and "20x13" in text and "18x13" in text and str(path) in text
    # the image may have been resized: its original size counts
    image["ori_shape"] = (13, 18)
    assert LoadLabels()(sample(path, **image))["gt_seg_map"].shape == (13, 18)


def test_options() -> None:
    with pytest.raises(ValueError, match="'error' or 'ignore', got 'skip'"):
        LoadLabels(unknown="skip")
    assert (
        repr(LoadLabels()) == "LoadLabels(unknown='error')" and repr(LoadImage()) == "LoadImage()"
    )
