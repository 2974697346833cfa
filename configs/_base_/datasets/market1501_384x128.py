"""Market1501 at 384x128, as stronger baselines have it."""

_base_ = "./market1501_256x128.py"

train_pipeline = [
    dict(type="Resize", height=384, width=128),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=10),
    dict(type="RandomCrop", height=384, width=128),
    dict(
        type="RandomErasing", scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill=(124, 116, 104), p=0.5
    ),
]
test_pipeline = [dict(type="Resize", height=384, width=128)]

train_dataloader = dict(dataset=dict(transforms=train_pipeline))
test_dataloader = dict(market1501=dict(dataset=dict(transforms=test_pipeline)))
val_dataloader = test_dataloader
