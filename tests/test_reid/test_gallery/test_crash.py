"""Kills at random moments lose nothing acknowledged and show nothing half-written."""

import pytest

from .crash import run


@pytest.mark.parametrize(
    "rounds", [6, pytest.param(100, marks=pytest.mark.slow)], ids=["6-kills", "100-kills"]
)
def test_kills_lose_nothing_acknowledged(tmp_path, rounds):
    changes, interrupted, _ = run(tmp_path / "gallery", rounds, seed=rounds)
    assert changes
    assert interrupted
