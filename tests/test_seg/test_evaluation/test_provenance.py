from __future__ import annotations

import pytest

pytest.importorskip("mmseg")

from engine.provenance import Provenance
from seg.evaluation.provenance import selection_warning


def test_warnings() -> None:
    on_target = Provenance(chosen_by="city/mIoU", chosen_on="city")
    text = selection_warning(on_target, "run/best", "gta5")
    assert "best on city, a target domain (the source is gta5)" in text
    assert "save_best=gta5/mIoU" in text
    assert "may be a target" in selection_warning(on_target, "run/best", None)
    assert selection_warning(on_target, "run/best", "city") is None
    unknown = Provenance(chosen_by="of_all")
    assert "not recorded" in selection_warning(unknown, "x", "gta5")
    assert selection_warning(Provenance(), "run/iter_1", "gta5") is None
