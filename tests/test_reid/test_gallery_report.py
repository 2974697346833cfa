from __future__ import annotations

from types import SimpleNamespace

import pytest

from reid.gallery_report import Folder, stage_bars, what_to_try


@pytest.mark.parametrize(
    ("images", "folder"),
    [
        (["/a/b/1.jpg", "/a/b/2.jpg"], "/a/b/"),
        (["/a/b/1.jpg", "/a/c/2.jpg"], "/a/"),
        (["/a/b/1.jpg"], "/a/b/"),
        (["/a/1.jpg", "/b/2.jpg"], ""),  # only the root: nothing gained
        (["/ab/1.jpg", "/ac/2.jpg"], ""),
        (["x.jpg", "sha256:00"], ""),
        ([None, "", "/a/b/1.jpg"], "/a/b/"),
        ([], ""),
    ],
)
def test_a_folder_is_said_once(images, folder) -> None:
    found = Folder(images)
    assert found.line == (f"images are in {folder}" if folder else "")
    for image in images:
        assert found.line.removeprefix("images are in ") + found.short(image) == (
            folder + str(image).removeprefix(folder)
        )


@pytest.mark.parametrize(
    ("factory", "tried"),
    [
        ("IVF8,PQ4", "IVF8,SQfp16"),
        ("PCA16,IVF8,Flat", "IVF8,SQfp16"),
        ("HNSW16,SQ8", "HNSW16,SQfp16"),
        ("IVF8,Flat", "HNSW32,SQfp16"),
        ("HNSW16", "HNSW64,SQfp16"),
        ("HNSW16,Flat", "HNSW64,SQfp16"),
    ],
)
def test_what_to_try(factory, tried) -> None:
    assert tried in what_to_try(SimpleNamespace(factory=factory))


def test_bars_end_with_their_stages(capsys) -> None:
    with stage_bars() as show:
        show("train", 0, 2)
        show("train", 2, 2)
        show("measure", 1, 1)
    said = capsys.readouterr()
    assert said.out == "" and "train: 100%" in said.err and "measure: 100%" in said.err
