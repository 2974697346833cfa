"""ImageNet trained at 176 pixels and tested at 224, in batches of 1024."""

_base_ = "./imagenet.py"

train_pipeline = [
    dict(type="AntialiasedRandomResizedCrop", size=(176, 176), scale=(0.25, 1.0)),
    dict(type="HorizontalFlip", p=0.5),
]
train_dataloader = dict(batch_size=1024, dataset=dict(transforms=train_pipeline))
