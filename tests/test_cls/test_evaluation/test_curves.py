from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cls.evaluation.curves import Curves, curves_picture, read_curves


def write(folder: Path, start: str, lines: list[dict[str, object]], end: str = "\n") -> None:
    file = folder / start / "vis_data" / "scalars.json"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(json.dumps, lines)) + end)


def step(number: int, loss: float, length: int = 10) -> dict[str, object]:
    epoch = -(-number // length)
    return {
        **{"lr": 0.1, "loss": loss, "accuracy": 0.5, "data_time": 0.1, "time": 0.2},
        **{"epoch": epoch, "iter": number, "memory": 3, "step": number},
    }


def validation(epoch: int, value: float) -> dict[str, object]:
    return {"art/top-1": value, "art/top-5": 1.0, "time": 0.1, "step": epoch}


def test_one_run(tmp_path) -> None:
    lines = [step(5, 2.0), step(10, 1.5), validation(1, 0.4), step(15, 1.25), step(20, 1.0)]
    write(tmp_path, "20260101", [*lines, validation(2, 0.6)])
    curves = read_curves(tmp_path)
    assert curves.name == tmp_path.name and curves.epoch_length == 10
    assert curves.training["loss"] == [(5, 2.0), (10, 1.5), (15, 1.25), (20, 1.0)]
    assert set(curves.training) == {"loss", "lr", "accuracy"}
    assert curves.validation["art/top-1"] == [(1, 0.4), (2, 0.6)]
    assert curves.in_epochs("loss") == ([0.5, 1.0, 1.5, 2.0], [2.0, 1.5, 1.25, 1.0])
    assert curves.in_epochs("absent") == ([], [])


def test_a_resumed_run_is_one_curve(tmp_path) -> None:
    write(tmp_path, "1", [step(n, 2.0) for n in (5, 10, 15)] + [validation(1, 0.4)])
    write(tmp_path, "2", [step(n, 1.0) for n in (15, 20)] + [validation(2, 0.5)])
    curves = read_curves(tmp_path, "run")
    assert curves.training["loss"] == [(5, 2.0), (10, 2.0), (15, 1.0), (20, 1.0)]
    assert curves.validation["art/top-1"] == [(1, 0.4), (2, 0.5)] and curves.name == "run"


def test_a_run_that_was_ended_while_it_wrote(tmp_path) -> None:
    write(tmp_path, "1", [step(5, 2.0)], end='\n{"loss": 1.')
    assert read_curves(tmp_path).training["loss"] == [(5, 2.0)]
    write(tmp_path, "2", [step(10, 2.0)], end="\n{broken\n" + json.dumps(step(15, 1.0)))
    with pytest.raises(ValueError, match="line 2, is not JSON"):
        read_curves(tmp_path)


def test_no_curves(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no training curves in"):
        read_curves(tmp_path)


@pytest.mark.parametrize("number", [1, 3, 12])
def test_picture(tmp_path, number: int) -> None:
    runs = []
    for run in range(number):
        write(tmp_path / str(run), "1", [step(5, 2.0), validation(1, 0.4)])
        runs.append(read_curves(tmp_path / str(run), "$a_b"))
    runs.append(Curves("empty"))
    image = cv2.imdecode(np.frombuffer(curves_picture(runs), np.uint8), cv2.IMREAD_COLOR)
    assert image.std() > 5 and image.shape[1] > image.shape[0]
