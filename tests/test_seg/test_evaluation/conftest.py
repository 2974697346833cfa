"""Results without a model: two domains, a few classes, numbers from a seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def make_result() -> Callable[..., object]:
    """``make_result(number, **fields)`` -> a ModelResult on 'game' (source) and 'city'."""
    pytest.importorskip("mmseg")
    from seg.evaluation.confusion import ConfusionMatrix
    from seg.evaluation.results import DomainResult, ModelResult

    names = ["road", "car <b>&", "train"]

    def domain(seed: int, name: str, evaluated: tuple[int, ...]) -> DomainResult:
        generator = np.random.default_rng(seed)
        matrix = ConfusionMatrix(3, evaluated)
        counts = generator.integers(0, 50, (3, 3)) + 200 * np.eye(3, dtype=int)
        counts[2] = counts[:, 2] = 0  # no train anywhere
        matrix.counts[:] = counts
        metrics = {"mIoU": matrix.mean_iou(), "pixel_accuracy": matrix.pixel_accuracy()}
        details = {
            "confusion": matrix.counts,
            "classes": names,
            "evaluated_classes": matrix.evaluated,
            "iou": matrix.iou(),
            "accuracy": matrix.accuracy(),
            "boundary_iou": None,
            "images": [{"path": f"/x/{name}/<1>.png", "mIoU": 0.1, "pixel_accuracy": 0.2}],
            "rules": {"mean": "as always"},
            "data": {
                "name": name,
                "split": "val",
                "num_images": 1234,
                "fingerprint": f"{name:0<64}",
                "palette": [[128, 64, 128], [0, 0, 142], [0, 80, 100]],
            },
        }
        return DomainResult.from_details(metrics, details, "whole images, native size")

    def make(number: int, **fields: object) -> ModelResult:
        values = dict(
            name=f"run_s{number}/iter_10",
            domains={
                "city": domain(2 * number, "city", (0, 1)),
                "game": domain(2 * number + 1, "game", (0, 1, 2)),
            },
            checkpoint=f"run_s{number}/iter_10.pth",
            config="configs/seg/toy.py",
            seed=number,
            iteration=10,
            protocol={"name": "none", "deviations": [], "text": "none"},
            source="game",
        )
        return ModelResult(**{**values, **fields})

    return make
