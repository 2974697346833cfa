"""SN with batch averages: statistics are measured on 200 batches before each validation."""

_base_ = "./resnet50_sn_100e_imagenet.py"

model = dict(backbone=dict(norm=dict(using_moving_average=False)))
custom_hooks = [*_base_.custom_hooks, dict(type="engine.CalibrationHook", num_batches=200)]
