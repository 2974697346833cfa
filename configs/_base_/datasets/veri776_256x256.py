"""VeRi-776 at 256x256; otherwise vehicles are prepared as people are."""

_base_ = "./market1501_256x128.py"

data_root = "data/veri776"

train_pipeline = [
    dict(type="Resize", height=256, width=256),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=10),
    dict(type="RandomCrop", height=256, width=256),
    dict(
        type="RandomErasing", scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill=(124, 116, 104), p=0.5
    ),
]
test_pipeline = [dict(type="Resize", height=256, width=256)]

_domain = _base_.test_dataloader.market1501
train_dataloader = dict(
    dataset=dict(type="reid.VeRi776", root=data_root, transforms=train_pipeline),
    sampler=dict(iterations=None),  # as many as show about every image once
)
test_dataloader = dict(
    _delete_=True,
    veri776={
        **_domain,
        "dataset": dict(
            type="reid.VeRi776", root=data_root, split="test", transforms=test_pipeline
        ),
    },
)
val_dataloader = test_dataloader
