"""Tiny-ImageNet: 200 classes of 64x64 images in its published layout."""

_base_ = "./cifar10.py"

data_root = "data/tiny-imagenet-200"

train_pipeline = [
    dict(type="Pad", padding=8),
    dict(type="RandomCrop", height=64, width=64),
    dict(type="HorizontalFlip", p=0.5),
]
_data = dict(type="cls.TinyImageNet", root=data_root)
train_dataloader = dict(
    dataset=dict(_delete_=True, **_data, split="train", transforms=train_pipeline)
)
_domain = _base_.test_dataloader.cifar10
test_dataloader = dict(
    _delete_=True, tiny_imagenet={**_domain, "dataset": dict(**_data, split="val")}
)
val_dataloader = test_dataloader
