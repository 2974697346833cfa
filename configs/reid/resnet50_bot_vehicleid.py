"""The strong baseline on VehicleID: ResNet-50 with ImageNet weights (--weights)."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/vehicleid_256x256.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
