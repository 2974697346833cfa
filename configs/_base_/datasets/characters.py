"""Small pictures of characters in class folders (BIN's ICDAR and Chars74K experiments), at 32x32.

`data_root/train/<class>/` and `data_root/test/<class>/`.
"""

_base_ = "./cifar10.py"

data_root = "data/characters"

train_pipeline = [
    dict(type="AntialiasedResize", height=32, width=32),
    dict(type="Pad", padding=4),
    dict(type="RandomCrop", height=32, width=32),  # and no flip: b is not d
]
test_pipeline = [dict(type="AntialiasedResize", height=32, width=32)]

_data = dict(_delete_=True, type="cls.ClassFolder", root=data_root)
train_dataloader = dict(dataset=dict(**_data, split="train", transforms=train_pipeline))
_domain = _base_.test_dataloader.cifar10
test_dataloader = dict(
    _delete_=True,
    characters={
        **_domain,
        "dataset": dict(
            type="cls.ClassFolder", root=data_root, split="test", transforms=test_pipeline
        ),
    },
)
val_dataloader = test_dataloader
