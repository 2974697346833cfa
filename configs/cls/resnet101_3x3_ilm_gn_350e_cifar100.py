"""ILM-Norm on CIFAR-100, in that set's own colours."""

_base_ = [
    "../_base_/models/classifier_3x3.py",
    "../_base_/datasets/cifar100.py",
    "../_base_/schedules/cls_ilm_350e.py",
    "../_base_/runtime/cls.py",
]

model = dict(
    backbone=dict(depth=101, norm=dict(type="backbones.ILM", base="gn"), num_classes=100),
    data_preprocessor=dict(
        mean=(129.3105, 124.1085, 112.404),  # .5071 .4867 .4408
        std=(68.2125, 65.4075, 70.4055),  # .2675 .2565 .2761
    ),
)
train_dataloader = dict(batch_size=32)
