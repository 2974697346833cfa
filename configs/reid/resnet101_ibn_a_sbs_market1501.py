"""As resnet50_sbs_market1501, with ResNet-101-IBN-a.

Published: rank-1 96.3, mAP 90.3, mINP 70.0 (fast-reid).
"""

_base_ = "./resnet50_sbs_market1501.py"

model = dict(backbone=dict(depth=101, ibn="a", non_local=(0, 2, 9, 0)))
