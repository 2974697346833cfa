from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import Config

from engine.cli import (
    build_runner,
    check_keys,
    choose_domains,
    describe,
    load_config,
    parse_options,
    scale_schedule,
    without_training,
)

ROOT = Path(__file__).parent.parent.parent
LEAVES = sorted(ROOT.glob("configs/*/*.py"))
LEAVES = [path for path in LEAVES if path.parent.name != "_base_"]


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_every_config_loads(path) -> None:
    config = load_config(path)
    assert config.randomness.seed is not None and config.model.type


def test_options() -> None:
    options = ["a.b=1", "c=(2, 3)", "d=text", "e=true", "f=None", "g=x=y", "h=1e-3"]
    expected = {"a.b": 1, "c": (2, 3), "d": "text", "e": True, "f": None, "g": "x=y", "h": 1e-3}
    assert parse_options(options) == expected


@pytest.mark.parametrize("wrong", ["novalue", "=3"])
def test_option_without_key_or_value(wrong) -> None:
    with pytest.raises(ValueError, match="expected KEY=VALUE"):
        parse_options([wrong])


def test_missing_config_suggests(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(FileNotFoundError, match=r"did you mean.*resnet50_bot_market1501\.py"):
        load_config("configs/reid/resnet50_bot_market.py")


def test_config_that_does_not_parse(tmp_path) -> None:
    (tmp_path / "bad.py").write_text("a = (")
    with pytest.raises(ValueError, match=r"bad\.py does not load"):
        load_config(tmp_path / "bad.py")


def test_misspelt_key() -> None:
    with pytest.raises(ValueError, match="'optim_wraper'; did you mean 'optim_wrapper'"):
        check_keys(Config(dict(optim_wraper={})))
    check_keys(Config(dict(my_variable=1, image_size=(2, 3))))


def test_a_seed_is_required(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"randomness\.seed must be a number"):
        build_runner(Config(dict(model={})), work_dir=str(tmp_path))


def test_missing_checkpoint(tmp_path) -> None:
    config = Config(dict(randomness=dict(seed=0), model={}))
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere"):
        build_runner(config, work_dir=str(tmp_path), load_from="nowhere.pth")


def test_unknown_types_are_explained() -> None:
    from mmengine.registry import DATA_SAMPLERS

    from backbones.registry import MODELS
    from engine.registry import HOOKS
    from reid.registry import DATA_SAMPLERS as SAMPLERS

    with pytest.raises(KeyError) as caught:
        MODELS.build(dict(type="backbones.ResNeXt"))
    assert "backbones.ResNet" in describe(caught.value)
    with pytest.raises(KeyError) as caught:
        HOOKS.build(dict(type="engine.StopSafelyHok"))
    assert "did you mean engine.StopSafelyHook" in describe(caught.value)
    for registry in (DATA_SAMPLERS, SAMPLERS):  # the one's name has a space, the other's has none
        with pytest.raises(KeyError) as caught:
            registry.build(dict(type="reid.PKSamplr"))
        assert "did you mean reid.PKSampler" in describe(caught.value)


def test_misspelt_arguments_are_explained() -> None:
    from backbones.registry import MODELS

    with pytest.raises(TypeError) as caught:
        MODELS.build(dict(type="backbones.ResNet", depth=18, last_strid=1))
    assert "ResNet takes no argument 'last_strid'" in describe(caught.value)


def test_schedule_keeps_its_shape() -> None:
    config = load_config(ROOT / "configs/reid/resnet50_bot_market1501.py")
    scale_schedule(config, 60)
    assert config.train_cfg.max_epochs == 60
    assert config.param_scheduler[1].milestones == [20, 35]
    assert config.param_scheduler[0].end == 10
    scale_schedule(config, 5)
    assert config.param_scheduler[0].end == 1 and config.train_cfg.val_interval == 5
    with pytest.raises(ValueError, match="1 or more"):
        scale_schedule(config, 0)


def test_iterations_scale_warm_up_and_decay_together() -> None:
    poly = dict(type="PolyLR", begin=1500, end=40000, by_epoch=False)
    warm_up = dict(type="LinearLR", begin=0, end=1500, by_epoch=False)
    config = Config(
        dict(
            train_cfg=dict(max_iters=40000, val_interval=4000),
            param_scheduler=[warm_up, poly],
        )
    )
    scale_schedule(config, 10000, "iters")
    assert config.train_cfg == dict(max_iters=10000, val_interval=4000)
    assert [(s.begin, s.end) for s in config.param_scheduler] == [(0, 1500), (1500, 10000)]
    scale_schedule(config, 400, "iters")
    assert [(s.begin, s.end) for s in config.param_scheduler] == [(0, 60), (60, 400)]
    with pytest.raises(ValueError, match="--iterations: expected 1 or more"):
        scale_schedule(config, 0, "iters")


@pytest.mark.parametrize(
    ("epochs", "spans"),
    [
        (60, [(0, 6), (6, 60)]),
        (5, [(0, 1), (1, 5)]),
        (1, [(0, 0.2), (0.2, 1.0)]),  # by iterations a warm-up can be a part of an epoch
    ],
)
def test_a_warm_up_never_takes_all_of_a_short_run(epochs, spans) -> None:
    warm_up = dict(type="LinearLR", begin=0, end=6, convert_to_iter_based=True)
    cosine = dict(type="CosineAnnealingLR", begin=6, end=30, convert_to_iter_based=True)
    config = Config(dict(train_cfg=dict(max_epochs=30), param_scheduler=[warm_up, cosine]))
    scale_schedule(config, epochs)
    assert [(s.begin, s.end) for s in config.param_scheduler] == spans


def test_some_of_the_domains() -> None:
    domains = {name: dict(batch_size=1) for name in ("gta5", "cityscapes", "bdd100k")}
    config = Config(dict(test_dataloader=domains))
    choose_domains(config, ["cityscapes", "gta5"])
    assert [*config.test_dataloader] == ["cityscapes", "gta5"]
    with pytest.raises(ValueError, match=r"tests on cityscapes, gta5, not on acdc; .*--target"):
        choose_domains(config, ["acdc"])


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_a_test_keeps_what_it_needs_of_a_config(path) -> None:
    config = load_config(path)
    without_training(config)
    assert config.model and config.test_dataloader and config.test_evaluator
    assert not any(config.get(key) for key in ("train_dataloader", "val_dataloader", "visualizer"))


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise ValueError('what came; what to do')", 1, "error: what came; what to do\n"),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("return None", 0, ""),
        ("raise SystemExit(143)", 143, ""),
        ("raise ZeroDivisionError('x')", 1, "error: ZeroDivisionError: x\n"),
    ],
)
def test_exit_codes_and_messages(body, code, message) -> None:
    script = f"from engine.cli import run_tool\ndef main():\n    {body}\nrun_tool(main)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, message)


@pytest.mark.parametrize("code", [0, 143])
def test_a_tool_leaves_the_other_processes_tidily(code, tmp_path) -> None:
    """Threads of a process group that is still open abort the process now and then as it ends."""
    import torch.distributed as dist

    from engine.cli import run_tool

    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        with pytest.raises(SystemExit) as ended:
            run_tool(lambda: sys.exit(code) if code else None)
        assert ended.value.code == code
    finally:
        left = not dist.is_initialized()
        if not left:
            dist.destroy_process_group()
    assert left


def test_a_traceback_on_request(monkeypatch) -> None:
    from engine.cli import run_tool

    monkeypatch.setenv("REIDSEG_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)
