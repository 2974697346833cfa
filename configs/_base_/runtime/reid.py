"""How a re-ID run behaves: logs, checkpoints, safety, precision, evaluation."""

default_scope = "mmengine"
randomness = dict(seed=0)
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
precision = dict(dtype="bfloat16", channels_last=True)

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="engine.IterationSeedHook"),
    dict(type="engine.NonFiniteLossHook"),
    dict(type="engine.ManifestHook"),
    dict(type="engine.StopSafelyHook"),
]
log_processor = dict(window_size=50)
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)

val_cfg = dict(type="engine.DomainLoop")
val_evaluator = dict(type="reid.RankingMetric", metric="cosine", ap="step")
test_cfg = val_cfg
test_evaluator = val_evaluator
