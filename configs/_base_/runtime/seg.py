"""How a segmentation run behaves: iterations, the last checkpoint counts, mIoU as the metric."""

_base_ = "./default.py"

default_scope = "mmseg"
sync_bn = "torch"  # with several processes: every norm, in backbone and heads
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2000, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
val_evaluator = dict(type="seg.SegmentationMetric")
test_evaluator = val_evaluator
