"""The strong baseline on VERI-Wild: ResNet-50, ImageNet --weights."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/veri_wild_256x256.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
