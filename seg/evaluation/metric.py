"""mIoU and its relatives as mmengine evaluates them: each image once, whatever the processes."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from engine.main_process import on_main_process

from ..registry import METRICS
from .boundary import BoundaryCounts
from .confusion import ConfusionMatrix, subset_means

# Pictures for a report are kept at this width; a page with many of them stays small.
PICTURE_WIDTH = 640
# in a metainfo, but no description of the data: the classes stand in the details, mmseg's label
# mapping follows from source and space
_NOT_DATA = ("classes", "label_map", "reduce_zero_label")


@dataclass(frozen=True)
class Picture:
    """One image with its labels, reduced to at most 640 columns, for a report.

    Attributes:
        path: of the image file.
        why: 'sample' (chosen by file name, the same for every model) or 'worst'.
        iou: mean IoU over the classes in this image, 0..1.
        image: JPEG of what the network was given. truth, prediction: PNG of the label maps.
    """

    path: str
    why: str
    iou: float
    image: bytes
    truth: bytes
    prediction: bytes

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 RGB, truth and prediction (H, W) uint8."""
        return (
            np.ascontiguousarray(_decoded(self.image, cv2.IMREAD_COLOR)[..., ::-1]),
            _decoded(self.truth, cv2.IMREAD_UNCHANGED),
            _decoded(self.prediction, cv2.IMREAD_UNCHANGED),
        )


@METRICS.register_module()
class SegmentationMetric(BaseMetric):
    """IoU, accuracies and boundary IoU of one domain.

    ``evaluate`` returns, in 0..1: ``mIoU``; ``pixel_accuracy`` (mmseg's aAcc); ``class_accuracy``
    (mmseg's mAcc, mean over classes); with ``boundary`` also ``boundary_mIoU``; and
    ``mIoU_<name>`` for each of ``subsets``. The means are over ``evaluated_classes`` of the data
    set's metainfo, i.e. the classes that its labels can contain (all if absent), and leave out
    those that neither occur nor are predicted. Labels are compared at the size at which the data
    samples carry them, which is the original one where labels are loaded after any resizing.

    Args:
        boundary: also the boundary IoU (about 10 ms for a 2048x1024 image).
        boundary_ratio: its width as a share of the image's diagonal.
        pictures: how many images to keep for a report, twice: a sample chosen by file name, the
            same for every model, and the worst by IoU.
        subsets: name -> class names, e.g. ``{"rare": ["train", "bicycle"]}``.

    Attributes:
        details: after ``evaluate``, on the main process: 'confusion' (C, C) int64 with rows truth;
            'classes'; 'evaluated_classes'; 'iou', 'accuracy' (C,) with NaN for absent classes;
            'boundary_iou' (C,) or None; 'images': for each image its path, mIoU and
            pixel_accuracy, worst first; 'pictures': list of Picture; 'rules'; 'data', the data
            set's description.
    """

    default_prefix = ""  # the loop puts the domain's name before each key

    def __init__(
        self,
        boundary: bool = False,
        boundary_ratio: float = 0.02,
        pictures: int = 0,
        subsets: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(collect_device="cpu")
        if pictures < 0:
            raise ValueError(f"pictures: expected 0 or more, got {pictures}")
        BoundaryCounts(1, ratio=boundary_ratio)  # refuses a wrong ratio before the run
        self.boundary, self.boundary_ratio = boundary, boundary_ratio
        self.pictures = pictures
        self.subsets = {name: list(members) for name, members in (subsets or {}).items()}
        self.details: dict[str, Any] = {}
        self._share: _Share | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Count a batch.

        Args:
            data_batch: as the loader gave it; ``inputs`` (BGR uint8) become the pictures.
            data_samples: SegDataSamples or dicts with ``pred_sem_seg``, ``gt_sem_seg`` (each (H, W)
                or (1, H, W)) and ``img_path``.
        """
        share = self._share = self._share or self._new_share()
        inputs = data_batch.get("inputs") if isinstance(data_batch, Mapping) else None
        for place, sample in enumerate(data_samples):
            path = str(_get(sample, "img_path") or "")
            truth, prediction = _get(sample, "gt_sem_seg"), _get(sample, "pred_sem_seg")
            if prediction is None:
                raise ValueError(f"{path or 'a data sample'}: no prediction (pred_sem_seg)")
            if truth is None:
                raise ValueError(
                    f"{path or 'a data sample'}: no labels to compare with (gt_sem_seg). Is "
                    "seg.LoadLabels in the test pipeline? For images without labels use "
                    "tools/segment.py"
                )
            try:
                maps = _labels(truth), _labels(prediction)
                iou = share.add(path, *maps)
            except ValueError as error:
                raise ValueError(
                    f"{path or 'a data sample'}: {error}" + _size_hint(sample, truth, prediction)
                ) from error
            if self.pictures:
                image = inputs[place] if inputs is not None else None
                share.keep(path, iou, image, *maps)

    def evaluate(self, size: int) -> dict[str, float]:
        """The numbers over all processes; each of ``size`` images must have come exactly once.

        Raises:
            RuntimeError: images are missing or came twice. ValueError: no labelled pixel at all.
        """
        own, self._share = self._share or self._new_share(), None
        shares = all_gather_object(own)
        return on_main_process(lambda: self._combine(shares, size))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        raise NotImplementedError("results are counted as they come: call evaluate")

    def _new_share(self) -> _Share:
        meta = self.dataset_meta or {}
        if not meta.get("classes"):
            raise ValueError("SegmentationMetric: the data set's metainfo names no classes")
        return _Share(self, len(meta["classes"]), meta.get("evaluated_classes"))

    def _combine(self, shares: list[_Share], size: int) -> dict[str, float]:
        total = self._new_share()
        for share in shares:
            total.merge(share)
        paths = [image["path"] for image in total.images]
        named = [p for p in paths if p]
        if size == 0:
            raise ValueError("no images to evaluate: the data set is empty")
        if len(paths) != size or len(set(named)) != len(named):
            raise RuntimeError(
                f"expected each of {size} images once, got {len(paths)} results for "
                f"{len(set(named))} different ones; use a sampler that neither repeats nor drops, "
                "e.g. sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
            )
        meta = dict(self.dataset_meta or {})
        matrix, boundary = total.matrix, total.boundary
        if not matrix.counts.any():
            raise ValueError(
                f"none of the {size} images has a labelled pixel: check the labels with "
                "tools/prepare_data.py"
            )
        metrics = {
            "mIoU": matrix.mean_iou(),
            "pixel_accuracy": matrix.pixel_accuracy(),
            "class_accuracy": matrix.mean_accuracy(),
            **subset_means(matrix, meta["classes"], self.subsets),
        }
        if boundary is not None:
            metrics["boundary_mIoU"] = boundary.mean_iou()
        self.details = {
            "confusion": matrix.counts,
            "classes": tuple(meta["classes"]),
            "evaluated_classes": matrix.evaluated,
            "iou": matrix.iou(),
            "accuracy": matrix.accuracy(),
            "boundary_iou": None if boundary is None else boundary.iou(),
            "images": sorted(total.images, key=_worst_first),
            "pictures": total.chosen_pictures(),
            "rules": self._rules(matrix),
            "data": {k: v for k, v in meta.items() if k not in _NOT_DATA},
        }
        return metrics

    def _rules(self, matrix: ConfusionMatrix) -> dict[str, Any]:
        rules: dict[str, Any] = {
            "mean": f"over {len(matrix.evaluated)} of {matrix.num_classes} classes; those that "
            "neither occur nor are predicted are left out",
            "ignored": "pixels of label 255",
        }
        if self.boundary:
            rules["boundary"] = f"within {self.boundary_ratio:g} of the image's diagonal"
        if self.subsets:
            rules["subsets"] = self.subsets
        return rules


class _Share:
    """What one process has counted."""

    def __init__(
        self, metric: SegmentationMetric, num_classes: int, evaluated: Sequence[int] | None
    ) -> None:
        self.matrix = ConfusionMatrix(num_classes, evaluated)
        self.boundary = (
            BoundaryCounts(num_classes, evaluated, metric.boundary_ratio)
            if metric.boundary
            else None
        )
        self.images: list[dict[str, Any]] = []
        self.pictures = metric.pictures
        # heaps of (rank, path, n-th image, picture): the sample ranks by the hash of its name, the
        # worst by IoU; n keeps two pictures from ever being compared
        self.kept: dict[str, list[tuple[float, str, int, Picture]]] = {"sample": [], "worst": []}

    def add(self, path: str, truth: np.ndarray, prediction: np.ndarray) -> float:
        """Count an image and return its mean IoU over the classes of truth and prediction."""
        counts = self.matrix.update(truth, prediction)
        if self.boundary is not None:
            self.boundary.update(truth, prediction)
        image = ConfusionMatrix(self.matrix.num_classes, self.matrix.evaluated)
        image.counts = counts
        iou = image.mean_iou()
        self.images.append(
            {"path": path, "mIoU": iou, "pixel_accuracy": image.pixel_accuracy()}
        )  # fmt: skip
        return iou

    def keep(
        self, path: str, iou: float, image: Any, truth: np.ndarray, prediction: np.ndarray
    ) -> None:
        """Keep the image's picture if it belongs to the sample or to the worst so far."""
        name = "/".join(Path(path).parts[-3:])  # the same wherever the data lies
        digest = hashlib.sha256(name.encode()).digest()[:8]
        ranks = {"sample": -int.from_bytes(digest, "big") / 2**64}
        if not np.isnan(iou):
            ranks["worst"] = -iou
        for why, rank in ranks.items():
            heap = self.kept[why]
            if len(heap) < self.pictures or rank > heap[0][0]:
                picture = _picture(path, why, iou, image, truth, prediction)
                if picture is not None:
                    heapq.heappush(heap, (rank, path, len(self.images), picture))
                    if len(heap) > self.pictures:
                        heapq.heappop(heap)

    def merge(self, other: _Share) -> None:
        self.matrix += other.matrix
        if self.boundary is not None and other.boundary is not None:
            self.boundary.intersection += other.boundary.intersection
            self.boundary.union += other.boundary.union
        self.images += other.images
        for why, heap in other.kept.items():
            self.kept[why] = heapq.nlargest(
                self.pictures, self.kept[why] + heap, key=lambda entry: entry[:2]
            )

    def chosen_pictures(self) -> list[Picture]:
        """The sample by name, then the worst, worst first; none twice."""
        sample = sorted((e[3] for e in self.kept["sample"]), key=lambda p: p.path)
        seen = {p.path for p in sample}
        worst = [e[3] for e in sorted(self.kept["worst"], key=lambda e: e[:2], reverse=True)]
        return sample + [p for p in worst if p.path not in seen]


def _picture(
    path: str, why: str, iou: float, image: Any, truth: np.ndarray, prediction: np.ndarray
) -> Picture | None:
    if image is None:  # no batch of images: the file itself
        shown = cv2.imread(path, cv2.IMREAD_COLOR) if Path(path).is_file() else None
        if shown is None:
            return None
    else:
        shown = np.ascontiguousarray(torch.as_tensor(image).cpu().numpy().transpose(1, 2, 0))
        shown = shown.clip(0, 255).astype(np.uint8)
    height, width = truth.shape
    scale = min(1.0, PICTURE_WIDTH / max(width, 1))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
    maps = [cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in (truth, prediction)]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    return Picture(
        path,
        why,
        iou,
        cv2.imencode(".jpg", shown, quality)[1].tobytes(),
        *(cv2.imencode(".png", m)[1].tobytes() for m in maps),
    )


def _decoded(data: bytes, flags: int) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert array is not None, "what _picture encoded"
    return array


def _worst_first(image: Mapping[str, Any]) -> tuple[bool, float, str]:
    return bool(np.isnan(image["mIoU"])), image["mIoU"], image["path"]


def _get(sample: Any, key: str) -> Any:
    return sample.get(key) if hasattr(sample, "get") else getattr(sample, key, None)


def _data(field: Any) -> Any:
    """The array of a PixelData, of its dict, or of a bare tensor."""
    if isinstance(field, Mapping):
        return field["data"]
    return field if isinstance(field, torch.Tensor | np.ndarray) else field.data


def _labels(field: Any) -> np.ndarray:
    """(H, W) uint8 on the CPU; refuses what does not fit into it instead of wrapping around."""
    data = torch.as_tensor(_data(field))
    if data.ndim == 3 and data.shape[0] == 1:
        data = data[0]  # (1, H, W) -> (H, W)
    if data.ndim != 2:
        raise ValueError(f"expected one label map (H, W) or (1, H, W), got {tuple(data.shape)}")
    if data.dtype != torch.uint8:
        if data.numel():
            low, high = (int(v) for v in data.aminmax())
            if low < 0 or high > 255:
                raise ValueError(f"labels: expected values 0..255, got {low}..{high}")
        data = data.to(torch.uint8)
    labels: np.ndarray = data.cpu().numpy()
    return labels


def _size_hint(sample: Any, truth: Any, prediction: Any) -> str:
    shapes = [tuple(_data(field).shape[-2:]) for field in (truth, prediction)]
    if shapes[0] == shapes[1]:
        return ""
    labels = _get(sample, "seg_map_path")
    return (
        f". Labels: {labels or 'unknown file'}. Either the files differ in size (tools/"
        "prepare_data.py finds such pairs), or the test pipeline resizes labels that should keep "
        "their size: load them (seg.LoadLabels) after Resize"
    )
