"""ILM-Norm on ImageNet (Jia et al. 2019): batches of 36, the rate scaled to them."""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/cls_step_100e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=50, norm=dict(type="backbones.ILM", base="gn")))
train_dataloader = dict(batch_size=36)
optim_wrapper = dict(
    optimizer=dict(lr=0.1 * 36 / 256),
    paramwise_cfg=dict(bypass_duplicate=True),  # the encoder has three names
)
