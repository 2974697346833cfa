"""ILM-Norm on CIFAR-10 (Jia et al., CVPR 2019), on group norm; `model.backbone.norm.base=in`, `ln`.

Its authors' ResNet-50 and -152 are built of basic blocks: `model.backbone.block=basic`.
"""

_base_ = [
    "../_base_/models/classifier_3x3.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/schedules/cls_ilm_350e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=101, norm=dict(type="backbones.ILM", base="gn")))
train_dataloader = dict(batch_size=32)
