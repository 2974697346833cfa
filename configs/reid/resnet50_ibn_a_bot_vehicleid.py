"""As resnet50_bot_vehicleid, with IBN-a.

Published: rank-1 and rank-5 86.6 and 97.9 (small), 82.9 and 96.0 (medium), 80.6 and 93.9 (large),
by fast-reid with GeM, weighted triplets and batches of 512.
"""

_base_ = "./resnet50_bot_vehicleid.py"

model = dict(backbone=dict(ibn="a"))
