"""GTA5 and Cityscapes for IBN-Net's experiment; the paper does not give crop and augmentation.

They are PSPNet's here (Zhao et al. 2017): scales 0.5 to 2, crops of 713, horizontal flips.
"""

_base_ = "./gta5_robustnet.py"

train_pipeline = [
    dict(type="seg.LoadImage"),
    dict(type="seg.LoadLabels"),
    dict(type="RandomResize", scale=(1914, 1052), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="seg.ClassCrop", crop_size=(713, 713)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    dataset=dict(drop=(), pipeline=train_pipeline),
    sampler=dict(_delete_=True, type="seg.SeededSampler"),
)
_gta5 = _base_.test_dataloader.gta5
_cityscapes = _base_.test_dataloader.cityscapes
test_dataloader = dict(_delete_=True, gta5=_gta5, cityscapes=_cityscapes)
