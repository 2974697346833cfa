"""As resnet50_bot_msmt17, trained on list_train and list_val: not comparable with it."""

_base_ = [
    "../_base_/models/bot.py",
    "../_base_/datasets/msmt17_train_val_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
