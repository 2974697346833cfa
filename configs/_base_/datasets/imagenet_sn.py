"""ImageNet as SN's authors train on it: with noise along the principal colours (PCA lighting)."""

_base_ = "./imagenet.py"

train_pipeline = [
    dict(type="AntialiasedRandomResizedCrop", size=(224, 224)),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="PCALighting", sigma=0.1, variant="sn"),
]
train_dataloader = dict(dataset=dict(transforms=train_pipeline))
