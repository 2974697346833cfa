"""The strong baseline on CUHK03 (new protocol, labelled): ResNet-50, ImageNet --weights."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/cuhk03_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
