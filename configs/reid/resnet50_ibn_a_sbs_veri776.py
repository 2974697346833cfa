"""As resnet50_sbs_veri776, with IBN-a.

Published: rank-1 97.0, mAP 81.9, mINP 46.3 (fast-reid).
"""

_base_ = "./resnet50_sbs_veri776.py"

model = dict(backbone=dict(ibn="a"))
