"""As resnet50_ibn_a_bot_market1501; what is tested and kept is a moving average of the weights."""

_base_ = "./resnet50_ibn_a_bot_market1501.py"

custom_hooks = [*_base_.custom_hooks, dict(type="engine.EMAHook", momentum=2e-4)]
