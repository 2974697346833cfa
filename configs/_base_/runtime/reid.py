"""How a re-ID run behaves: epochs, a checkpoint after each, ranking as the metric."""

_base_ = "./default.py"

default_scope = "mmengine"
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
)
val_evaluator = dict(type="reid.RankingMetric", metric="cosine", ap="step")
test_evaluator = val_evaluator
