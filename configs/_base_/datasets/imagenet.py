"""ImageNet at 224, as all four papers train: random resized crop, flip; tested on 256 -> 224."""

data_root = "data/imagenet"

train_pipeline = [
    dict(type="AntialiasedRandomResizedCrop", size=(224, 224)),
    dict(type="HorizontalFlip", p=0.5),
]
test_pipeline = [
    dict(type="AntialiasedSmallestMaxSize", max_size=256),
    dict(type="CenterCrop", height=224, width=224),
]

train_dataloader = dict(
    batch_size=256,  # over all processes
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(type="cls.ImageNet", root=data_root, split="train", transforms=train_pipeline),
    sampler=dict(type="cls.SeededSampler"),
    collate_fn=dict(type="cls.collate"),
)
test_dataloader = dict(
    imagenet=dict(
        batch_size=100,
        num_workers=8,
        dataset=dict(type="cls.ImageNet", root=data_root, split="val", transforms=test_pipeline),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
        collate_fn=dict(type="cls.collate"),
    )
)
val_dataloader = test_dataloader
