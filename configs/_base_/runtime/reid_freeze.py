"""As reid, and the backbone learns from iteration 1,000 on, when the head is no longer random."""

_base_ = "./reid.py"

custom_hooks = [
    *_base_.custom_hooks,
    dict(type="engine.FreezeHook", modules=["backbone"], iterations=1000),
]
