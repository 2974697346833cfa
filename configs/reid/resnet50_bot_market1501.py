"""The strong baseline: ResNet-50 with ImageNet weights (give them with --weights), 256x128.

Published: rank-1 94.5, mAP 85.9 (Luo et al. 2019); 94.4 and 86.1 (fast-reid).
"""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/market1501_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
