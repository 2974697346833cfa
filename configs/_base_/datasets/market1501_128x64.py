"""Market1501 at 128x64, a size that a CPU trains: a quarter of the pixels, two workers."""

_base_ = "./market1501_256x128.py"

train_pipeline = [
    dict(type="Resize", height=128, width=64),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=5),
    dict(type="RandomCrop", height=128, width=64),
    dict(type="RandomErasing", scale=(0.02, 0.33), ratio=(0.3, 1 / 0.3), p=0.5),
]
test_pipeline = [dict(type="Resize", height=128, width=64)]

train_dataloader = dict(
    num_workers=2,
    pin_memory=False,
    dataset=dict(transforms=train_pipeline),
    sampler=dict(iterations=130),
)
test_dataloader = dict(market1501=dict(num_workers=2, dataset=dict(transforms=test_pipeline)))
val_dataloader = test_dataloader
