"""A made result: two domains of three classes, one of which does not occur in one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cls.evaluation.results import DomainResult, ModelResult

CLASSES = ["cat", "dog <b>&", "emu"]


def domain(name: str, matrix: np.ndarray, top5: float | None = None) -> DomainResult:
    counts = matrix.sum(1)
    accuracy = [float(matrix[c, c] / n) if n else None for c, n in enumerate(counts)]
    top1 = float(np.trace(matrix) / matrix.sum())
    known = [a for a in accuracy if a is not None]
    return DomainResult(
        metrics={
            "top-1": top1,
            **({} if top5 is None else {"top-5": top5}),
            "class_accuracy": sum(known) / len(known),
        },
        classes=list(CLASSES),
        counts=[int(n) for n in counts],
        accuracy=accuracy,
        confusion=[[int(t), int(p), int(matrix[t, p])] for t, p in np.argwhere(matrix)],
        worst=[
            {
                "path": f"/home/somebody/{name}/a/x.png",
                "index": 3,
                "truth": "cat",
                "prediction": "emu",
                "confidence": 0.99,
            }
        ],
        extras={"log_loss": 1.25, "calibration_error": 0.125},
        shifts={
            "RGB+50": {"top-1": top1 - 0.1, "class_accuracy": 0.3},
            "std x1.5": {"top-1": top1},
        },
        shift_words={"RGB+50": "50 added", "std x1.5": "contrast"},
        rules={"ties": "against the network", "inference": "Resize 112x112, float32"},
        data={
            "name": name,
            "split": "val",
            "protocol": "every tenth",
            "fingerprint": f"{name}0123456789abcdef",
            "num_images": int(counts.sum()),
        },
    )


@pytest.fixture
def make_result() -> Callable[..., ModelResult]:
    def make(number: int, **changes: object) -> ModelResult:
        art = np.array([[6, 2, 0], [1, 5 + number, 2], [0, 0, 4]])
        photo = np.array([[8, 1, 0], [0, 7 + number, 1], [0, 0, 0]])
        values: dict[str, object] = {
            "name": f"bin_s{number}/epoch_30",
            "domains": {"art": domain("art", art), "photo": domain("photo", photo)},
            "checkpoint": f"bin_s{number}/epoch_30.pth",
            "config": "configs/cls/toy.py",
            "weights": f"{number}" * 64,
            "seed": number,
            "epoch": 30,
            "recipe": "0123456789abcdef",
            "source": "art",
        }
        return ModelResult(**{**values, **changes})

    return make


@pytest.fixture
def write_picture() -> Callable[[Path, np.ndarray], None]:
    """Write (H, W, 3) RGB values of 0..255 as a PNG; folders are made as needed."""

    def write(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]).astype(np.uint8))

    return write
