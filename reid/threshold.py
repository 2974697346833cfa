"""From which score on two images count as the same identity, and how often that errs.

A threshold is chosen for a rate of false accepts: the share of pairs of two different identities
whose score reaches it. Where it was chosen it meets that rate by construction, so it is measured on
identities that took no part in the choice; both are reported.

Pairs that share an identity are not independent: 26,000 pairs of 31 people know about 31 people.
The intervals are therefore those of drawing the identities again (a bootstrap: Efron, "Bootstrap
Methods: Another Look at the Jackknife", 1979), and never narrower than those of independent pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.atomic import write_json
from engine.wording import counted

if TYPE_CHECKING:
    from reid.evaluation import VerificationResult

__all__ = [
    "Calibration",
    "Threshold",
    "as_threshold",
    "calibrate",
    "parse_threshold",
    "percent",
    "threshold_path",
]

FORMAT = "reidseg threshold 1"


@dataclass(frozen=True)
class Threshold:
    """A smallest score of "the same identity".

    Attributes:
        value: cosine similarity, -1..1.
        far: false-accept rate, the share of pairs of two identities with a score of ``value`` or
            more; frr: false-reject rate, the share of pairs of one identity with less. Both 0..1
            and measured; None where nobody did. ``*_interval``: 95 %, over other identities.
        target_far: what it was chosen for.
        model: fingerprint of the model that it belongs to; None: whatever model.
        protocol: the data, their fingerprint, numbers of identities and pairs, which pairs count.
    """

    value: float
    far: float | None = None
    frr: float | None = None
    far_interval: tuple[float, float] = (0.0, 1.0)
    frr_interval: tuple[float, float] = (0.0, 1.0)
    target_far: float | None = None
    model: str | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> str:
        """On what the rates were measured, in a line."""
        if self.far is None:
            return "not calibrated"
        pairs = [self.protocol.get(f"{kind}_pairs") for kind in ("genuine", "impostor")]
        counts = f": {pairs[0]:,} genuine and {pairs[1]:,} impostor pairs" if all(pairs) else ""
        return f"measured on {self.protocol.get('data', 'unknown data')}{counts}"

    def write(self, path: str | Path) -> Path:
        """Write it as JSON, atomically."""
        return write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, path: str | Path) -> Threshold:
        """What :meth:`write` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: it is something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no threshold at {path}; tools/calibrate_threshold.py writes one"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            for name in ("far_interval", "frr_interval"):
                low, high = content[name]
                content[name] = (float(low), float(high))
            return as_threshold(cls(**content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} does not hold a threshold ({error}); expected a file that "
                "tools/calibrate_threshold.py wrote"
            ) from error


def threshold_path(weights: str | Path) -> Path:
    """Where a checkpoint's threshold lies: ``<weights>.threshold.json``."""
    return Path(f"{weights}.threshold.json")


def as_threshold(given: float | str | Path | Threshold) -> Threshold:
    """A number, the path of a file, or a threshold, as a threshold.

    Raises:
        ValueError: something else, or a number that is none.
    """
    if isinstance(given, (str, Path)):
        return Threshold.read(given)
    if not isinstance(given, Threshold):
        if isinstance(given, (bool, np.bool_)) or not isinstance(given, (int, float, np.number)):
            raise ValueError(
                f"a threshold is a number, a path or a reid.threshold.Threshold, got {given!r}"
            )
        given = Threshold(float(given))
    if not math.isfinite(given.value):
        raise ValueError(f"a threshold is a finite number, got {given.value}")
    return given


def percent(rate: float) -> str:
    """A rate 0..1 in percent with three digits: ``0.23%``, ``12.5%``, ``100%``."""
    return f"{100 * rate:.3g}%"


def parse_threshold(text: str | None) -> float | str | None:
    """What a command line says: a number, the path of a file, or nothing."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Calibration:
    """A threshold with the verification on the identities that chose it and that measured it.

    The two are one and the same where nothing was held out.
    """

    threshold: Threshold
    chosen_on: VerificationResult
    measured_on: VerificationResult

    @property
    def held_out(self) -> bool:
        return self.chosen_on is not self.measured_on


def calibrate(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    gallery_ids: np.ndarray,
    query_cameras: np.ndarray | None = None,
    gallery_cameras: np.ndarray | None = None,
    *,
    far: float = 0.01,
    hold_out: bool = True,
    seed: int = 0,
    model: str | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Calibration:
    """Choose the threshold of a false-accept rate and measure what it does.

    The first six arguments and the pairs that count are those of
    :func:`reid.evaluation.verify`.

    Args:
        far: the rate wanted, 0..1.
        hold_out: choose on a random half of the identities, measure on the other half. Gallery
            images of identities without a query (distractors) are dealt out one by one.
        seed: of the halves.
        model: fingerprint of the model that made the features.
        protocol: what else to keep with the threshold: ``data``, ``fingerprint``, ...

    Raises:
        ValueError: a rate outside 0..1, or halves without pairs of both kinds.
    """
    from reid.evaluation import verify

    if not 0 < far < 1:
        raise ValueError(f"far: expected a share of pairs between 0 and 1, got {far:g}")
    query = _Side(query_features, query_ids, query_cameras)
    gallery = _Side(gallery_features, gallery_ids, gallery_cameras)
    identities = np.setdiff1d(query.ids, [-1])
    if len(identities) < (4 if hold_out else 2):
        raise ValueError(
            f"the queries show {counted(len(identities), 'identity')}; "
            + (
                "halves of two or more each need 4: give more data, or choose and measure on the "
                "same identities (hold_out=False, --no-hold-out)"
                if hold_out
                else "pairs of two different identities need 2 or more"
            )
        )
    rng = np.random.default_rng(seed)
    if not hold_out:
        chosen = measured = verify(*_arguments(query, gallery))
        groups = [identities, identities]
    else:
        groups = np.array_split(rng.permutation(identities), 2)
        anyone = rng.integers(2, size=len(gallery.ids))  # the half of a distractor
        no_query = ~np.isin(gallery.ids, identities)
        sides = [
            (
                query.where(np.isin(query.ids, group)),
                gallery.where(np.isin(gallery.ids, group) | (no_query & (anyone == half))),
            )
            for half, group in enumerate(groups)
        ]
        chosen, measured = (verify(*_arguments(*side)) for side in sides)
        query, gallery = sides[1]
    value = chosen.threshold_at(far)
    rates = measured.rates_at(value)
    drawn = _drawn_again(query, gallery, value, rng)
    threshold = Threshold(
        value=float(value),
        far=float(rates.far),
        frr=float(rates.frr),
        far_interval=_wider(rates.far_interval, drawn[0]),
        frr_interval=_wider(rates.frr_interval, drawn[1]),
        target_far=far,
        model=model,
        protocol={
            **(protocol or {}),
            "pairs": "every query with every gallery image but those of one identity and one "
            "camera, and junk (identity -1)",
            "intervals": f"95 %, from {_DRAWS} draws of the identities, at least Wilson's",
            "held_out": hold_out,
            "seed": seed if hold_out else None,
            "identities": len(groups[1]),
            "genuine_pairs": measured.num_genuine,
            "impostor_pairs": measured.num_impostor,
            "chosen_on_identities": len(groups[0]),
            "chosen_on_genuine_pairs": chosen.num_genuine,
            "chosen_on_impostor_pairs": chosen.num_impostor,
            "eer": float(measured.eer),
        },
    )
    return Calibration(as_threshold(threshold), chosen, measured)


@dataclass(frozen=True)
class _Side:
    """Queries or gallery: (N, D), (N,), (N,) or None."""

    features: np.ndarray
    ids: np.ndarray
    cameras: np.ndarray | None

    def where(self, mask: np.ndarray) -> _Side:
        cameras = None if self.cameras is None else np.asarray(self.cameras)[mask]
        return _Side(self.features[mask], np.asarray(self.ids)[mask], cameras)


def _arguments(query: _Side, gallery: _Side) -> tuple[Any, ...]:
    return (
        *(query.features, gallery.features, query.ids, gallery.ids),
        *(query.cameras, gallery.cameras),
    )


_DRAWS = 400


def _drawn_again(
    query: _Side, gallery: _Side, value: float, rng: np.random.Generator
) -> np.ndarray:
    """(2, 2): 95 % intervals of FAR and FRR at ``value`` had other identities been drawn.

    An identity that is drawn w times counts its own pairs w times, and those with one drawn v
    times w * v times. Distractors stay. Memory: a block of queries x gallery.
    """
    identities = np.setdiff1d(query.ids, [-1])
    times = rng.multinomial(len(identities), np.full(len(identities), 1 / len(identities)), _DRAWS)

    def weights(ids: np.ndarray) -> np.ndarray:
        """(N, draws) of images."""
        place = np.minimum(np.searchsorted(identities, ids), len(identities) - 1)
        drawn = np.where(identities[place] == ids, times[:, place], 1)
        return np.where(np.asarray(ids) == -1, 0, drawn).T.astype(np.float32)

    query_weights, gallery_weights = weights(query.ids), weights(gallery.ids)
    vectors = [_unit(side.features) for side in (query, gallery)]
    counts = np.zeros((4, _DRAWS))  # accepted and all impostors, rejected and all genuine pairs
    for start in range(0, len(query.ids), 256):
        part = slice(start, start + 256)
        accepted = vectors[0][part] @ vectors[1].T >= value  # (block, G)
        same = np.asarray(query.ids)[part, None] == np.asarray(gallery.ids)
        genuine = same
        if query.cameras is not None and gallery.cameras is not None:
            cameras = np.asarray(query.cameras)[part, None]
            genuine = same & ~((cameras == np.asarray(gallery.cameras)) & (cameras != -1))
        mine = query_weights[part]  # (block, draws)
        for row, impostors in enumerate((accepted & ~same, ~same)):
            counts[row] += (impostors.astype(np.float32) @ gallery_weights * mine).sum(0)
        for row, pairs in enumerate((genuine & ~accepted, genuine), 2):
            counts[row] += pairs.sum(1, dtype=np.float32) @ mine
    rates = counts[[0, 2]] / np.maximum(counts[[1, 3]], 1)
    return np.quantile(rates, [0.025, 0.975], axis=1).T


def _unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


def _wider(first: tuple[float, float], second: np.ndarray) -> tuple[float, float]:
    """The interval that holds both."""
    return float(min(first[0], second[0])), float(max(first[1], second[1]))
