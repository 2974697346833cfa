"""PACS, leave one domain out: three of its domains to train on, the fourth as the target.

Small images and batches, so that a CPU trains it. A tenth of each class of each training domain is
held out; the target is tested whole.
"""

data_root = "data/pacs"

train_pipeline = [
    dict(type="AntialiasedRandomResizedCrop", size=(64, 64), scale=(0.7, 1.0)),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, p=1.0),
    dict(type="ToGray", p=0.1),
]
test_pipeline = [dict(type="AntialiasedResize", height=64, width=64)]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(
        type="cls.DomainFolder",
        root=data_root,
        exclude="sketch",
        split="train",
        fraction=0.9,
        transforms=train_pipeline,
    ),
    sampler=dict(type="cls.SeededSampler"),
    collate_fn=dict(type="cls.collate"),
)
_loader = dict(
    batch_size=64,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="cls.collate"),
)
_data = dict(type="cls.DomainFolder", root=data_root, transforms=test_pipeline)
test_dataloader = dict(
    sources=dict(**_loader, dataset=dict(**_data, exclude="sketch", split="val", fraction=0.9)),
    sketch=dict(**_loader, dataset=dict(**_data, domains="sketch", split="all")),
)
val_dataloader = dict(sources=test_dataloader["sources"])  # the target chooses nothing
source_domain = "sources"
