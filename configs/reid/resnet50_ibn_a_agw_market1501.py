"""As resnet50_agw_market1501, with IBN-a.

Published: rank-1 95.1, mAP 88.7, mINP 67.1 (fast-reid).
"""

_base_ = "./resnet50_agw_market1501.py"

model = dict(backbone=dict(ibn="a"))
