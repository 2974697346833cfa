"""MSMT17 at 256x128, trained on list_train and list_val (32,621 images)."""

_base_ = "./msmt17_256x128.py"

train_dataloader = dict(dataset=dict(train="train+val"))
test_dataloader = dict(msmt17=dict(dataset=dict(train="train+val")))
val_dataloader = test_dataloader
