"""The strong baseline on DukeMTMC-reID: ResNet-50 with ImageNet weights (--weights)."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/dukemtmc_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
