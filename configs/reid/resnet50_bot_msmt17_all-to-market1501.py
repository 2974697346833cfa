"""Generalisation: the strong baseline, trained on all of MSMT17, tested on Market1501.

Published for direct transfer with a plain ResNet-50: rank-1 46.3, mAP 22.8.
"""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/msmt17_all_market1501_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
