from __future__ import annotations

import json

import numpy as np
import pytest

from reid.gallery import Gallery
from reid.gallery_model import (
    GalleryModel,
    find_gallery_model,
    gallery_model_file,
    gallery_threshold,
)
from reid.threshold import Threshold, threshold_path


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    made = Gallery.create(tmp_path / "g", 4, model="m")
    made.add(np.eye(4, dtype=np.float32)[:1], [{}], model="m")
    return made


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    for name in ("c.py", "w.pth"):
        (tmp_path / name).touch()
    return str(tmp_path / "c.py"), str(tmp_path / "w.pth")


def test_it_lies_in_the_folder_and_is_found(gallery, files, monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match="--model-file"):
        find_gallery_model(gallery)
    monkeypatch.chdir(tmp_path)
    GalleryModel.of("c.py", "w.pth").write(gallery_model_file(gallery.location))
    monkeypatch.chdir("/")
    assert find_gallery_model(gallery) == GalleryModel(*files)
    assert gallery_model_file("milvus://host:1/people") is None


def test_what_is_given_comes_first(gallery, files, tmp_path) -> None:
    gone = GalleryModel(files[0], str(tmp_path / "gone.pth"))
    gone.write(tmp_path / "g" / "extractor.json")
    with pytest.raises(FileNotFoundError, match="--checkpoint"):
        find_gallery_model(gallery)
    assert find_gallery_model(gallery, weights=files[1]) == GalleryModel(*files)
    GalleryModel(*files).write(tmp_path / "elsewhere.json")
    found = find_gallery_model(gallery, model_file=tmp_path / "elsewhere.json")
    assert found == GalleryModel(*files)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_gallery_model(gallery, model_file=tmp_path / "nowhere.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 1, "weights": null}', "\xff"])
def test_another_file_is_refused(gallery, tmp_path, content) -> None:
    file = tmp_path / "g" / "extractor.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"extractor\.json"):
        find_gallery_model(gallery)


def test_thresholds(gallery, files) -> None:
    model = GalleryModel(*files)
    assert gallery_threshold(gallery, 0.5, None).value == 0.5
    with pytest.raises(ValueError, match="calibrate_threshold"):
        gallery_threshold(gallery, True, model)
    stored = threshold_path(files[1])
    Threshold(0.6, model="m").write(stored)
    assert gallery_threshold(gallery, True, model).value == 0.6
    stored.write_text(json.dumps({**json.loads(stored.read_text()), "model": "other"}))
    with pytest.raises(ValueError, match="calibrated for the model other"):
        gallery_threshold(gallery, True, model)
