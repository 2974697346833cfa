"""CamVid (UK) and IDD-lite (India) in their seven shared classes, for a CPU; trains on CamVid."""

data_root = "data"
source_domain = "camvid"

train_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    # both sets are brought to about the same height, which the crop covers two thirds of
    dict(type="RandomResize", scale=(480, 240), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="seg.ClassCrop", crop_size=(160, 224), rule="centroid", tile=160),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="seg.Albumentations",
        transforms=[
            dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.5)
        ],
    ),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="Resize", scale=(480, 240), keep_ratio=True),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type="seg.CamVid", root=f"{data_root}/camvid", split="train", pipeline=train_pipeline
    ),
    # half of the crops are where a class is that has its turn: people and poles are rare
    sampler=dict(type="seg.ClassUniformSampler", fraction=0.5, min_pixels=100),
)
_domain = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
)
test_dataloader = dict(
    camvid=dict(
        **_domain,
        dataset=dict(
            type="seg.CamVid",
            root=f"{data_root}/camvid",
            split="test",
            pipeline=test_pipeline,
            test_mode=True,
        ),
    ),
    idd_lite=dict(
        **_domain,
        dataset=dict(
            type="seg.IDDLite",
            root=f"{data_root}/idd_lite",
            split="val",
            pipeline=test_pipeline,
            test_mode=True,
        ),
    ),
)
val_dataloader = test_dataloader
