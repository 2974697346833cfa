"""As resnet50_sbs_market1501, with IBN-a.

Published: rank-1 95.7, mAP 89.3, mINP 67.5 (fast-reid).
"""

_base_ = "./resnet50_sbs_market1501.py"

model = dict(backbone=dict(ibn="a"))
