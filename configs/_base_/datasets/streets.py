"""Drawn streets (tools/prepare_data.py streets): train on a game, test on a real-like city."""

data_root = "demo/streets"
source_domain = "game"

train_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="RandomResize", scale=(512, 256), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="seg.ClassCrop", crop_size=(160, 224), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(type="seg.GTA5", root=f"{data_root}/game", split="train", pipeline=train_pipeline),
    sampler=dict(type="seg.SeededSampler"),
)
_loader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
)
_data = dict(split="val", pipeline=test_pipeline, test_mode=True)
test_dataloader = dict(
    game=dict(**_loader, dataset=dict(type="seg.GTA5", root=f"{data_root}/game", **_data)),
    real=dict(**_loader, dataset=dict(type="seg.Cityscapes", root=f"{data_root}/real", **_data)),
)
val_dataloader = dict(game=test_dataloader["game"])
