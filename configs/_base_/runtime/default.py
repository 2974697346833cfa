"""What every run has: a seed, logs, safety, precision."""

randomness = dict(seed=0)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
precision = dict(dtype="auto", channels_last=True)  # bfloat16 where it is fast, float32 elsewhere

custom_hooks = [
    dict(type="engine.IterationSeedHook"),
    dict(type="engine.NonFiniteLossHook"),
    dict(type="engine.GateClampHook"),  # of BIN; other networks have no gates
    dict(type="engine.ManifestHook"),
    dict(type="engine.StopSafelyHook"),
]
log_processor = dict(window_size=50)
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)

val_cfg = dict(type="engine.DomainLoop")
test_cfg = val_cfg
