"""As resnet50_bot_market1501, with IBN-a.

Published: rank-1 95.0, mAP 88.2 (Luo et al. 2019), which others retrain to 87.1..87.4 mAP; 94.9 and
87.6 (fast-reid).
"""

_base_ = "./resnet50_bot_market1501.py"

model = dict(backbone=dict(ibn="a"))
