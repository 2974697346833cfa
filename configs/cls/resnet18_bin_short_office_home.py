"""BIN on Office-Home's four domains mixed, tested on each (Nam and Kim 2018, table 3).

Hyper-parameters were not published. --weights takes those of a BIN network on ImageNet; to start
from a plain ResNet-18, write such a file with `backbones.init_from_plain` (gates of 1: the same
function).
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/office_home.py",
    "../_base_/schedules/cls_short_30e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=18, norm="bin", num_classes=65))
optim_wrapper = dict(optimizer=dict(lr=0.02))
