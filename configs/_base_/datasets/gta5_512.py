"""GTA5 at 1280x720 in crops of 512, as Rein and HRDA train on it, and their targets' sizes."""

_base_ = "./gta5_robustnet.py"

train_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="Resize", scale=(1280, 720)),
    dict(type="seg.ClassCrop", crop_size=(512, 512), cat_max_ratio=0.75, rule="contains"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="Resize", scale=(1024, 512)),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]
bdd100k_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="Resize", scale=(1280, 720)),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]
mapillary_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="Resize", scale=(1024, 512), keep_ratio=True),
    dict(type="seg.LoadLabels"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    dataset=dict(split="all", drop=(), pipeline=train_pipeline),
    sampler=dict(_delete_=True, type="seg.SeededSampler"),
)
_cityscapes = _base_.test_dataloader.cityscapes
_bdd100k = _base_.test_dataloader.bdd100k
_mapillary = _base_.test_dataloader.mapillary
# not the source: all of its images are trained on
test_dataloader = dict(
    _delete_=True,
    cityscapes={**_cityscapes, "dataset": {**_cityscapes.dataset, "pipeline": test_pipeline}},
    bdd100k={**_bdd100k, "dataset": {**_bdd100k.dataset, "pipeline": bdd100k_pipeline}},
    mapillary={**_mapillary, "dataset": {**_mapillary.dataset, "pipeline": mapillary_pipeline}},
)
val_dataloader = None
