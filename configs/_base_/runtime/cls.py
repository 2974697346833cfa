"""How a classification run behaves: epochs, a checkpoint after each, top-1 and top-5 as metrics."""

_base_ = "./default.py"

default_scope = "mmengine"
sync_bn = None  # as the papers: every process has statistics of its own
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=True),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
)
val_evaluator = dict(type="cls.ClassificationMetric", topk=(1, 5))
test_evaluator = val_evaluator
