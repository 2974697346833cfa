"""Generalisation: the strong baseline, trained on MSMT17's list_train, tested on Market1501."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/msmt17_market1501_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
