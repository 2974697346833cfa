"""GTA5 as RobustNet trains on it; Cityscapes, BDD100K and Mapillary as it tests on them."""

data_root = "data"
source_domain = "gta5"

train_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="RandomResize", scale=(1914, 1052), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="seg.ClassCrop", crop_size=(768, 768), rule="centroid"),
    dict(type="RandomFlip", prob=0.5),
    # after the crop, where there are fewer pixels
    dict(
        type="seg.Albumentations",
        transforms=[
            dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.5),
            dict(type="GaussianBlur", sigma_limit=(0.15, 1.3), blur_limit=0, p=1.0),
        ],
    ),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]
mapillary_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="seg.ResizeAndCropSquare", size=1536),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=16,  # over all processes: four of four images train alike
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    dataset=dict(
        type="seg.GTA5",
        root=f"{data_root}/gta5",
        split="train",
        drop="robustnet",
        pipeline=train_pipeline,
    ),
    sampler=dict(type="seg.ClassUniformSampler", fraction=0.5),
)
_loader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
)
_data = dict(split="val", pipeline=test_pipeline, test_mode=True)
test_dataloader = dict(
    gta5=dict(**_loader, dataset=dict(type="seg.GTA5", root=f"{data_root}/gta5", **_data)),
    cityscapes=dict(
        **_loader, dataset=dict(type="seg.Cityscapes", root=f"{data_root}/cityscapes", **_data)
    ),
    bdd100k=dict(**_loader, dataset=dict(type="seg.BDD100K", root=f"{data_root}/bdd100k", **_data)),
    mapillary=dict(
        **_loader,
        dataset=dict(
            type="seg.Mapillary",
            root=f"{data_root}/mapillary",
            **{**_data, "pipeline": mapillary_pipeline},
        ),
    ),
)
# while training only the source is looked at: targets choose nothing
val_dataloader = dict(gta5=test_dataloader["gta5"])
