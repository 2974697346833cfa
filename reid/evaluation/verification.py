"""Verification: are two images of one identity? Error rates of a threshold on their similarity.

The pairs are all of a query and a gallery item, but for those the protocol ignores: junk (pid -1),
and pairs of one identity *and* one camera, as in the ranking. Pairs of one identity are *genuine*,
all others *impostors*. The score of a pair is its cosine similarity; a pair is called the same if
its **score is at least the threshold**, so that equal scores are accepted or rejected together. The
false-accept rate (FAR) is the share of impostors called the same, the false-reject rate (FRR) the
share of genuine pairs that are not; TAR is 1 - FRR.

Everything follows from one table: how many genuine and how many impostor pairs have each score.
So that it fits in memory for any number of pairs, scores are multiples of a step: 2^-40 up to
``_FEW_PAIRS`` pairs, where only rounding errors of float64 fall together, and 2^-23 beyond, the
precision of float32. On these scores all results are exact. A score is the nearest multiple to the
cosine of the exact key of :mod:`reid.evaluation.distances`: products in float64 decide nearly all
roundings, and pairs that lie within their error bound of a tie are judged by the key. Hence the
table depends neither on the order of the images, nor on block sizes, threads or device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid.evaluation.distances import FeatureDistances, full_precision
from reid.evaluation.ranking import Matches, PairMask, as_labels
from reid.evaluation.ranking_cpu import cpu_kernels

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_FEW_PAIRS = 1 << 22  # whose scores are computed one by one, by exact keys
_FINE_STEP = 2.0**-40
_GRID = 1 << 23  # steps in a unit of similarity where there are more
_TABLES = 4  # of 128 MB each: as many threads count, each in its own
_ABSENT = torch.inf  # the score of a pair that does not count
_Z95 = 1.959963984540054  # of the normal distribution, for 95 % in the middle


@dataclass(frozen=True)
class Rates:
    """Error rates of a threshold, 0..1, with 95 % intervals (low, high) by Wilson's score.

    The intervals are of independent pairs. Pairs that share an image or an identity are not, so
    with few identities the truth is less certain than they say.
    """

    threshold: float
    far: float
    frr: float
    far_interval: tuple[float, float]
    frr_interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class VerificationResult:
    """How many pairs have each score, and what follows from it.

    ``scores`` (L,) are different and ascend; ``genuine`` and ``impostor`` (L,) count the pairs.
    """

    scores: Floats = field(repr=False)
    genuine: Ints = field(repr=False)
    impostor: Ints = field(repr=False)
    step: float = 0.0
    """Scores are multiples of it; 0 where they were given as numbers."""

    @cached_property
    def num_genuine(self) -> int:
        return int(self.genuine.sum())

    @cached_property
    def num_impostor(self) -> int:
        return int(self.impostor.sum())

    def __str__(self) -> str:
        """One line in percent that says what was compared."""
        return (
            f"EER {100 * self.eer:.2f}, AUC {100 * self.auc:.2f} (%; {self.num_genuine} genuine "
            f"and {self.num_impostor} impostor pairs; the same if the score is at least the "
            "threshold)"
        )

    def roc(self) -> tuple[Floats, Floats, Floats]:
        """FAR, TAR and threshold of all operating points, from infinity (0, 0) down to (1, 1)."""
        accepted, impostors = self._accepted
        thresholds = np.r_[np.inf, self.scores[::-1]]
        return impostors / self.num_impostor, accepted / self.num_genuine, thresholds

    @cached_property
    def auc(self) -> float:
        """Area under the ROC: how often a genuine pair scores above an impostor; a tie is half."""
        accepted, impostors = self._accepted
        twice = np.sum(np.diff(impostors) * (accepted[1:] + accepted[:-1]), dtype=np.float64)
        return float(twice / (2.0 * self.num_genuine * self.num_impostor))

    @property
    def eer(self) -> float:
        """Where FAR equals FRR, on the line between the operating points on either side."""
        return self._equal_error[0]

    @property
    def eer_threshold(self) -> float:
        """Of the operating points on either side, the one whose rates differ less."""
        return self._equal_error[1]

    def threshold_at(self, far: float) -> float:
        """The smallest threshold whose measured FAR does not exceed ``far`` (0..1).

        It lies just above the highest impostor to be rejected: half a step, or the next number. A
        rate below one in ``num_impostor`` cannot be measured: this logs a warning, and gives the
        threshold just above the highest impostor. If all may be accepted it is the lowest score.

        Raises:
            ValueError: for ``far`` outside 0..1.
        """
        allowed = self._allowed(far)
        if far > 0 and allowed == 0:
            logger.warning(
                "a false-accept rate of %g cannot be measured on %d impostor pairs: the threshold "
                "just above the highest is given; its rate is unknown but for being below about %g",
                *(far, self.num_impostor, 3 / self.num_impostor),
            )
        rejected = self._highest_rejected(allowed)
        return float(self.scores[0]) if rejected is None else self._just_above(rejected)

    def tar_at(self, far: float) -> float:
        """TAR at :meth:`threshold_at`, without its warning."""
        rejected = self._highest_rejected(self._allowed(far))
        kept = self.genuine if rejected is None else self.genuine[self.scores > rejected]
        return float(kept.sum() / self.num_genuine)

    def rates_at(self, threshold: float) -> Rates:
        """FAR and FRR if pairs are the same whose score is at least ``threshold``."""
        if np.isnan(threshold):
            raise ValueError("threshold must be a number, got NaN")
        first = np.searchsorted(self.scores, threshold, side="left")
        accepted, rejected = int(self.impostor[first:].sum()), int(self.genuine[:first].sum())
        return Rates(
            threshold=float(threshold),
            far=accepted / self.num_impostor,
            frr=rejected / self.num_genuine,
            far_interval=wilson_interval(accepted, self.num_impostor),
            frr_interval=wilson_interval(rejected, self.num_genuine),
        )

    def histogram(self, bins: int = 200) -> tuple[Floats, Ints, Ints]:
        """Edges (bins + 1,) of equal bins over all scores, genuine and impostor counts (bins,)."""
        low, high = self.scores[0], self.scores[-1]
        edges = np.histogram_bin_edges([], bins, (low, high))
        counts = (
            np.histogram(self.scores, edges, weights=c)[0] for c in (self.genuine, self.impostor)
        )
        genuine, impostor = (np.rint(count).astype(np.int64) for count in counts)
        return edges, genuine, impostor

    @cached_property
    def _accepted(self) -> tuple[Ints, Ints]:
        """Genuine pairs and impostors at or above infinity and each score, descending, (L + 1,)."""
        genuine, impostor = (np.r_[0, np.cumsum(c[::-1])] for c in (self.genuine, self.impostor))
        return genuine, impostor

    @cached_property
    def _equal_error(self) -> tuple[float, float]:
        far, tar, thresholds = self.roc()
        excess = far - (1 - tar)  # from -1 up to 1
        after = int(np.argmax(excess >= 0))
        before = after - 1
        weight = excess[before] / (excess[before] - excess[after])
        eer = far[before] + weight * (far[after] - far[before])
        nearer = before if -excess[before] <= excess[after] and before > 0 else after
        return float(eer), float(thresholds[nearer])

    def _allowed(self, far: float) -> int:
        """The largest number of impostors whose share does not exceed ``far``."""
        if not 0 <= far <= 1:
            raise ValueError(f"far must be a share of impostor pairs, 0..1, got {far}")
        number = self.num_impostor
        allowed = min(int(far * number), number)
        if allowed < number and (allowed + 1) / number <= far:
            allowed += 1
        return allowed - (allowed / number > far)

    def _highest_rejected(self, allowed: int) -> float | None:
        """The highest score that must be rejected for at most ``allowed`` impostors to remain."""
        if allowed >= self.num_impostor:
            return None
        impostors = self._accepted[1]
        position = int(np.searchsorted(impostors, allowed, side="right"))  # the first beyond
        return float(self.scores[len(self.scores) - position])

    def _just_above(self, score: float) -> float:
        return score + self.step / 2 if self.step else float(np.nextafter(score, np.inf))


def verify(
    query_features: Any,
    gallery_features: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    *,
    cross_camera_only: bool = False,
) -> VerificationResult:
    """Cosine similarity as an answer to "are these two the same?", over query x gallery pairs.

    Args:
        query_features, gallery_features, query_ids, gallery_ids, query_cameras, gallery_cameras:
            as for :func:`reid.evaluation.evaluate_ranking`. Junk (-1) on either side is ignored;
            without cameras no pair of one identity is. With the same images on both sides give
            cameras, or else every image is its own genuine partner.
        cross_camera_only: also ignore impostors within a known camera, so that genuine and impostor
            pairs are drawn alike. By default they count: a camera's view makes strangers before it
            look alike, a threshold has to keep them apart, too, and leaving them out would promise
            lower rates than people see.

    Raises:
        ValueError, TypeError: as ``evaluate_ranking``; and if there is no genuine pair or no
            impostor.
    """
    distances = FeatureDistances(query_features, gallery_features, "cosine")
    matches = Matches(
        as_labels(query_ids, "query_ids", distances.num_queries, "query_features"),
        as_labels(gallery_ids, "gallery_ids", distances.num_gallery, "gallery_features"),
        query_cameras,
        gallery_cameras,
    )
    if cross_camera_only and query_cameras is None:
        raise ValueError("cross_camera_only needs query_cameras and gallery_cameras, got None")
    matches.require_valid()
    few = distances.num_queries * distances.num_gallery <= _FEW_PAIRS
    step = _FINE_STEP if few else 1 / _GRID
    genuine_units, impostor = [], _Counts(few)
    stride = max(1, (1 << 22) // max(1, int(matches.same_id.max())))
    with full_precision(distances.device):
        for start in range(0, distances.num_queries, stride):
            stop = min(start + stride, distances.num_queries)
            pairs = matches.pairs(start, stop)
            rows, columns, genuine = (torch.from_numpy(x).to(distances.device) for x in pairs)
            scores = _cosines(distances, rows[genuine] + start, columns[genuine])
            genuine_units.append((scores / step).round().long().cpu().numpy())
            junk = np.flatnonzero(matches.junk)
            mask = PairMask(rows, columns, junk, distances.device)
            for row, column, values in _blocks(distances, start, stop):
                mask.apply(row - start, column, values)
                values[torch.from_numpy(matches.query_ids[row : row + len(values)] == -1)] = _ABSENT
                if cross_camera_only:
                    values.masked_fill_(_same_camera(matches, row, column, values), _ABSENT)
                impostor.add(distances, row, column, values)
    units, counts = impostor.finish()
    return _tabulate(np.concatenate(genuine_units), units, counts, step)


def verify_pairs(scores: Any, same: Any) -> VerificationResult:
    """The same for a list of pairs, whatever their score: higher is more alike.

    Args:
        scores: (P,) real numbers, finite.
        same: (P,) booleans or 0 and 1: whether a pair is genuine.

    Raises:
        ValueError: for wrong shapes or values, and if one of the kinds of pairs is missing.
    """
    values = np.asarray(scores.detach().cpu() if isinstance(scores, Tensor) else scores)
    labels = np.asarray(same.detach().cpu() if isinstance(same, Tensor) else same)
    if values.ndim != 1 or labels.shape != values.shape:
        raise ValueError(
            "scores and same must be one-dimensional and of one length, got shapes "
            f"{values.shape} and {labels.shape}"
        )
    if values.dtype.kind not in "fiub":
        raise TypeError(f"scores must be real numbers, got {values.dtype}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("same must hold True and False, or 1 and 0, alone")
    values, labels = values.astype(np.float64), labels.astype(bool)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise ValueError(f"scores must be finite: pair {bad[0]} and {len(bad) - 1} more are not")
    unique, place = np.unique(values, return_inverse=True)
    genuine = np.bincount(place[labels], minlength=len(unique))
    return _checked(unique, genuine, np.bincount(place[~labels], minlength=len(unique)), 0.0)


def wilson_interval(count: int, number: int) -> tuple[float, float]:
    """95 % interval of a share of which ``count`` of ``number`` independent trials were seen.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    share, z2 = count / number, _Z95**2 / number
    middle = (share + z2 / 2) / (1 + z2)
    half = np.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    low = 0.0 if count == 0 else float(max(middle - half, 0.0))
    return low, 1.0 if count == number else float(min(middle + half, 1.0))


# ---------------------------------------------------------------------------------------------
# scores


def _cosines(distances: FeatureDistances, rows: Tensor, columns: Tensor) -> Tensor:
    """Cosine similarities of P pairs, (P,) float64, from their exact keys."""
    keys = distances.exact(rows, columns)
    square = distances.query_square[rows]
    cosine = torch.where(square > 0, (keys.abs() / square).sqrt(), 0.0)
    return torch.where(keys < 0, cosine, -cosine).clamp_(-1.0, 1.0)


def _blocks(
    distances: FeatureDistances, start: int, stop: int
) -> Iterator[tuple[int, int, Tensor]]:
    """First query, first gallery item and float64 cosines (B, C), of blocks that cover all."""
    height, width = distances.screen_rows, distances.screen_columns
    space = distances.center.new_empty(min(height, stop - start) * width)
    for column in range(0, distances.num_gallery, width):
        part = slice(column, min(column + width, distances.num_gallery))
        gallery = distances.gallery[part].double() * distances.gallery_scale[part, None]
        for row in range(start, stop, height):
            rows = slice(row, min(row + height, stop))
            query = distances.query[rows].double() * distances.query_scale[rows, None]
            values = space[: len(query) * len(gallery)].view(len(query), len(gallery))
            torch.mm(query, gallery.T, out=values)
            yield row, column, values


def _same_camera(matches: Matches, row: int, column: int, values: Tensor) -> Tensor:
    height, width = values.shape
    query, gallery = (
        torch.from_numpy(cameras).to(values.device)
        for cameras in (
            matches.query_cameras[row : row + height],
            matches.gallery_cameras[column : column + width],
        )
    )
    return (query[:, None] == gallery) & (query != -1)[:, None]


class _Counts:
    """How many impostors have each score, in whole steps."""

    def __init__(self, few: bool) -> None:
        self.few = few
        self.units: list[Ints] = []
        threads = min(torch.get_num_threads(), _TABLES)
        self.tables = torch.zeros((threads, 0 if few else 2 * _GRID + 1), dtype=torch.int64)

    def add(self, distances: FeatureDistances, row: int, column: int, values: Tensor) -> None:
        """Take the pairs of ``values`` (B, C) that are not absent; overwrites it."""
        width = values.shape[1]
        if self.few:
            place = (values.view(-1) != _ABSENT).nonzero()[:, 0]
            cosines = _cosines(distances, place // width + row, place % width + column)
            self.units.append((cosines / _FINE_STEP).round().long().cpu().numpy())
            return
        # of the product (dim), scaling and the exact key, on unit vectors
        margin = 2.0**-53 * (2 * distances.dim + 256) * _GRID
        kernels = cpu_kernels() if values.device.type == "cpu" else None
        if kernels is not None:
            doubtful = kernels.tabulate(values, _GRID, margin, self.tables)
        else:
            doubtful = self._tabulate(values.view(-1), margin)
        if len(doubtful):
            cosines = _cosines(distances, doubtful // width + row, doubtful % width + column)
            units = (cosines * _GRID).round().long().cpu() + _GRID
            self.tables[0].index_add_(0, units, torch.ones_like(units))

    def _tabulate(self, values: Tensor, margin: float) -> Tensor:
        """As the compiled kernel: count what is certain, and return where the others stand."""
        scaled = values * _GRID
        units = scaled.clamp(-_GRID, _GRID).round()
        present = values != _ABSENT
        # the parts of a step that the value may be off by, without reaching the next
        doubtful = present & ((scaled - units).abs() > 0.5 - margin) & (scaled.abs() < _GRID)
        certain = units[present & ~doubtful].long() + _GRID
        if len(certain):
            low = int(certain.min())
            counts = torch.bincount(certain - low).cpu()
            self.tables[0, low : low + len(counts)] += counts
        return doubtful.nonzero()[:, 0]

    def finish(self) -> tuple[Ints, Ints]:
        """Scores in steps, ascending, and how many impostors have each."""
        if self.few:
            unique, counts = np.unique(np.concatenate(self.units), return_counts=True)
            return unique, counts
        table = self.tables.sum(0).numpy()
        place = np.flatnonzero(table)
        return place - _GRID, table[place]


def _tabulate(
    genuine_units: Ints, impostor_units: Ints, counts: Ints, step: float
) -> VerificationResult:
    genuine_units, genuine_counts = np.unique(genuine_units, return_counts=True)
    place = np.searchsorted(impostor_units, genuine_units)
    new = np.r_[impostor_units, np.iinfo(np.int64).max][place] != genuine_units
    units = np.insert(impostor_units, place[new], genuine_units[new])
    impostor = np.insert(counts, place[new], 0)
    genuine = np.zeros_like(impostor)
    genuine[np.searchsorted(units, genuine_units)] = genuine_counts
    return _checked(np.multiply(units, step, dtype=np.float64), genuine, impostor, step)


def _checked(scores: Floats, genuine: Ints, impostor: Ints, step: float) -> VerificationResult:
    for counts, kind, remedy in (
        (genuine, "genuine pair (of one identity)", "more images of an identity"),
        (impostor, "impostor pair (of two identities)", "images of more identities"),
    ):
        if not counts.any():
            raise ValueError(f"there is no {kind} to measure error rates on: {remedy} are needed")
    return VerificationResult(scores, genuine, impostor, step)
