from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid.threshold import (
    Threshold,
    as_threshold,
    calibrate,
    parse_threshold,
    threshold_path,
)


def people(identities: int = 40, images: int = 6, noise: float = 0.6, seed: int = 0):
    """Unit features of people seen by three cameras, queries first: what ``calibrate`` takes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(identities, 8))
    ids = np.repeat(np.arange(identities), images)
    features = centres[ids] + noise * rng.normal(size=(len(ids), 8))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    cameras = np.tile(np.arange(images) % 3, identities)
    query = np.tile(np.arange(images) < 2, identities)
    return (
        *(features[query], features[~query], ids[query], ids[~query]),
        *(cameras[query], cameras[~query]),
    )


def naive_rates(value: float, data, keep) -> tuple[float, float, int, int]:
    """False accepts and rejects, counted pair by pair; ``keep(identity)`` says who takes part."""
    query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = data
    accepted, rejected, genuine, impostor = 0, 0, 0, 0
    for q in range(len(query)):
        for g in range(len(gallery)):
            if not (keep(query_ids[q]) and keep(gallery_ids[g])):
                continue
            score = float(query[q].astype(np.float64) @ gallery[g])
            if query_ids[q] != gallery_ids[g]:
                impostor += 1
                accepted += score >= value
            elif query_cameras[q] != gallery_cameras[g]:
                genuine += 1
                rejected += score < value
    return accepted / impostor, rejected / genuine, genuine, impostor


@pytest.mark.parametrize("far", [0.1, 0.02])
def test_rates_are_those_of_a_naive_count(far: float) -> None:
    data = people()
    found = calibrate(*data, far=far, hold_out=False)
    value = found.threshold.value
    rates = naive_rates(value, data, lambda _: True)
    threshold = found.threshold
    assert (threshold.far, threshold.frr) == pytest.approx(rates[:2], abs=2e-4)
    assert threshold.protocol["genuine_pairs"] == rates[2]
    assert threshold.protocol["impostor_pairs"] == rates[3]
    # as many false accepts as allowed, and one pair more would be too many
    assert threshold.far <= far < threshold.far + 0.01
    assert threshold.far_interval[0] <= threshold.far <= threshold.far_interval[1]
    assert threshold.frr_interval[0] <= threshold.frr <= threshold.frr_interval[1]
    assert not found.held_out and found.chosen_on is found.measured_on


def test_halves_share_no_identity() -> None:
    data = people()
    found = calibrate(*data, far=0.05, model="m", protocol={"data": "drawn"})
    protocol = found.threshold.protocol
    assert found.held_out and protocol["identities"] + protocol["chosen_on_identities"] == 40
    # the identities of the measuring half: those whose naive count gives the same number of pairs
    rng = np.random.default_rng(0)
    chosen, measured = (set(h.tolist()) for h in np.array_split(rng.permutation(np.arange(40)), 2))
    rates = naive_rates(found.threshold.value, data, measured.__contains__)
    assert (found.threshold.far, found.threshold.frr) == pytest.approx(rates[:2], abs=1e-3)
    assert found.measured_on.num_genuine == rates[2]
    assert found.measured_on.num_impostor == rates[3]
    far = naive_rates(found.threshold.value, data, chosen.__contains__)[0]
    assert far <= 0.05 + 1e-3
    assert found.threshold.model == "m" and protocol["data"] == "drawn"


def test_halves_are_drawn_by_the_seed() -> None:
    data = people()
    values = [calibrate(*data, far=0.05, seed=seed).threshold.value for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_distractors_go_to_both_halves() -> None:
    """Gallery images without a query, all of identity 0 as in Market1501, count as impostors."""
    query, gallery, query_ids, gallery_ids, query_cameras, gallery_cameras = people()
    rng = np.random.default_rng(1)
    strangers = rng.normal(size=(50, 8)).astype(np.float32)
    strangers /= np.linalg.norm(strangers, axis=1, keepdims=True)
    plain = calibrate(*people(), far=0.05)
    more = calibrate(
        query,
        np.concatenate([gallery, strangers]),
        query_ids + 1,
        np.concatenate([gallery_ids + 1, np.zeros(50, np.int64)]),
        query_cameras,
        np.concatenate([gallery_cameras, np.zeros(50, np.int64)]),
        far=0.05,
    )
    extra = [
        getattr(more, side).num_impostor - getattr(plain, side).num_impostor
        for side in ("chosen_on", "measured_on")
    ]
    assert all(extra) and sum(extra) == 50 * 40  # each stranger meets the queries of one half


def test_without_cameras_every_pair_counts() -> None:
    data = people(identities=10)
    found = calibrate(*data[:4], far=0.1, hold_out=False)
    assert found.measured_on.num_genuine == 10 * 2 * 4
    assert found.measured_on.num_impostor == 10 * 9 * 2 * 4


def test_intervals_hold_the_rates_of_other_people() -> None:
    """Nine in ten and more of the intervals of few people hold the rates of very many."""
    truth = {}
    for noise in (0.6, 0.8):
        many = people(identities=400, noise=noise, seed=1)
        truth[noise] = calibrate(*many, far=0.05, hold_out=False).measured_on
    held, narrow = [], []
    for seed in range(20):
        for noise, result in truth.items():
            few = calibrate(*people(identities=20, noise=noise, seed=2 + seed), far=0.05)
            threshold, rates = few.threshold, result.rates_at(few.threshold.value)
            plain = few.measured_on.rates_at(threshold.value)
            for name in ("far", "frr"):
                low, high = getattr(threshold, f"{name}_interval")
                held.append(low <= getattr(rates, name) <= high)
                low, high = getattr(plain, f"{name}_interval")
                narrow.append(low <= getattr(rates, name) <= high)
    assert np.mean(held) > 0.85 > np.mean(narrow)  # of independent pairs: too narrow


def test_too_few_identities() -> None:
    with pytest.raises(ValueError, match=r"3 identities.*--no-hold-out"):
        calibrate(*people(identities=3))
    with pytest.raises(ValueError, match="1 identity"):
        calibrate(*people(identities=1), hold_out=False)
    for far in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrate(*people(), far=far)


def test_a_threshold_is_written_and_read(tmp_path: Path) -> None:
    threshold = calibrate(*people(), far=0.05, model="abc", protocol={"data": "x"}).threshold
    path = threshold.write(threshold_path(tmp_path / "epoch_3.pth"))
    assert path.name == "epoch_3.pth.threshold.json"
    again = Threshold.read(path)
    assert again == threshold and as_threshold(path) == as_threshold(str(path)) == threshold
    assert "measured on x: " in again.measured and "impostor pairs" in again.measured
    assert Threshold(0.5).measured == "not calibrated"


@pytest.mark.parametrize(
    "change",
    [
        {"format": "reidseg results 1"},
        {"far_interval": 3},
        {"unknown": 1},
        {"value": None},
        {"value": "high"},
        {"value": float("nan")},
    ],
)
def test_files_that_are_no_threshold(tmp_path: Path, change: dict) -> None:
    path = Threshold(0.5).write(tmp_path / "t.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match="does not hold a threshold"):
        Threshold.read(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="calibrate_threshold"):
        Threshold.read(tmp_path / "none.json")
    for text in ("", "[]", "3", "{}"):
        (tmp_path / "t.json").write_text(text)
        with pytest.raises(ValueError, match="does not hold a threshold"):
            Threshold.read(tmp_path / "t.json")


def test_as_threshold() -> None:
    assert as_threshold(0.5) == as_threshold(np.float32(0.5)) == Threshold(0.5)
    known = Threshold(0.5, far=0.1)
    assert as_threshold(known) is known
    for wrong in (True, None, [0.5], float("inf"), replace(known, value=float("nan"))):
        with pytest.raises(ValueError, match="a threshold is"):
            as_threshold(wrong)


def test_parse_threshold() -> None:
    assert parse_threshold("0.5") == 0.5 and parse_threshold(None) is None
    assert parse_threshold("a/t.json") == "a/t.json"
