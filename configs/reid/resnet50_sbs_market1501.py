"""The stronger baseline (fast-reid's SBS) on Market1501: ResNet-50, ImageNet --weights."""

_base_ = [
    "../_base_/models/sbs.py",
    "../_base_/datasets/market1501_384x128.py",
    "../_base_/schedules/sbs_60e.py",
    "../_base_/runtime/reid_freeze.py",
]

train_pipeline = [dict(type="AutoAugment", p=0.1), *_base_.train_pipeline]
train_dataloader = dict(
    dataset=dict(transforms=train_pipeline),
    sampler=dict(identities=4, instances=16),
)
