from __future__ import annotations

import hashlib
import json

import pytest
from mmengine import Config

from engine.provenance import Provenance, fingerprint, parse_config, provenance

TRAINED = dict(
    protocol="robustnet-r50",
    source_domain="gta5",
    train_cfg=dict(max_iters=40000),
    val_dataloader={"gta5": dict(batch_size=1), "city-2": dict(batch_size=1), "city": {}},
    default_hooks=dict(checkpoint=dict(type="CheckpointHook", save_best="city/mIoU")),
    pairs=[(1, 2.5, -3), None, True, {1: "a"}],
)


def checkpoint(iteration: int = 8000, **more: object) -> dict[str, object]:
    meta = dict(cfg=Config(TRAINED).pretty_text, seed=7, iter=iteration, epoch=0)
    return dict(meta=meta, state_dict={}, message_hub={"runtime_info": {}}, **more)


def test_a_dumped_config_is_read_without_running_it(tmp_path) -> None:
    assert parse_config(Config(TRAINED).pretty_text) == TRAINED
    for text in ("import os", "a = open('x')", "a = dict(1)", "a = [b for b in c]", "a ="):
        with pytest.raises(ValueError, match="dumped config"):
            parse_config(text)
    harmful = f"a = __import__('pathlib').Path({str(tmp_path / 'x')!r}).touch()"
    with pytest.raises(ValueError, match="plain values"):
        parse_config(harmful)
    assert not (tmp_path / "x").exists()


def test_what_a_checkpoint_says(tmp_path) -> None:
    (tmp_path / "manifest_train.json").write_text(json.dumps({"world_size": 4}))
    found = provenance(tmp_path / "iter_8000.pth", checkpoint(optimizer={}))
    assert found.config == TRAINED
    assert (found.seed, found.iteration, found.epoch) == (7, 8000, 0)
    assert found.chosen_by is None and found.world_size == 4
    assert provenance("x.pth", {}) == Provenance()
    foreign = provenance("x.pth", {"meta": {"cfg": "model = Net()", "seed": "a"}})
    assert foreign == Provenance()


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("best_city_mIoU_iter_8000.pth", "city/mIoU"),
        ("best_city-2_boundary_mIoU_iter_8000.pth", "city-2/boundary_mIoU"),
        ("best_gta5_mIoU_iter_8000-0123abcd.pth", "gta5/mIoU"),
    ],
)
def test_names_of_best_checkpoints(name: str, by: str) -> None:
    found = provenance(f"/runs/{name}", checkpoint())
    assert found.chosen_by == by and found.chosen_on == by.partition("/")[0]


def test_a_best_checkpoint_without_its_config() -> None:
    found = provenance("best_night_town_mIoU_iter_5.pth", {"state_dict": {}})
    assert found.chosen_on == "night_town"
    odd = provenance("best_of_all.pth", {"state_dict": {}})
    assert odd.chosen_by == "of_all" and odd.chosen_on is None
    ranked = provenance("best_art_top-1_epoch_5.pth", {"state_dict": {}})
    assert (ranked.chosen_by, ranked.chosen_on) == ("art/top-1", "art")


def test_a_renamed_best_checkpoint_is_recognised_by_what_it_holds() -> None:
    best = "/runs/best_city_mIoU_iter_8000.pth"
    kept = checkpoint()
    kept["message_hub"]["runtime_info"] = {"best_ckpt": best, "best_score": 0.4}
    assert provenance("model_final.pth", kept).chosen_by == "city/mIoU"
    several = checkpoint()
    several["message_hub"]["runtime_info"] = {"best_ckpt_gta5/mIoU": best}
    assert provenance("model_final.pth", several).chosen_by == "gta5/mIoU"
    # the plain checkpoints of the same run were not chosen
    later = checkpoint(10000)
    later["message_hub"]["runtime_info"] = {"best_ckpt": best}
    assert provenance("iter_10000.pth", later).chosen_by is None
    kept["optimizer"] = {}
    assert provenance("iter_8000.pth", kept).chosen_by is None
    by_epoch = checkpoint()
    by_epoch["meta"]["epoch"] = 12
    by_epoch["message_hub"]["runtime_info"] = {"best_ckpt": "/runs/best_city_mIoU_epoch_12.pth"}
    assert provenance("model_final.pth", by_epoch).chosen_by == "city/mIoU"


def test_fingerprint(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 10**6)
    assert fingerprint(tmp_path / "x") == hashlib.sha256(b"abc" * 10**6).hexdigest()
