"""CIFAR-10 in its original files; zero padding of 4, random crop, flip; batches of 128."""

data_root = "data/cifar-10-batches-py"

train_pipeline = [
    dict(type="Pad", padding=4),
    dict(type="RandomCrop", height=32, width=32),
    dict(type="HorizontalFlip", p=0.5),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,  # a last batch of a few images has no batch statistics worth the name
    dataset=dict(type="cls.CIFAR10", root=data_root, split="train", transforms=train_pipeline),
    sampler=dict(type="cls.SeededSampler"),
    collate_fn=dict(type="cls.collate"),
)
test_dataloader = dict(
    cifar10=dict(
        batch_size=256,
        num_workers=2,
        dataset=dict(type="cls.CIFAR10", root=data_root, split="test"),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
        collate_fn=dict(type="cls.collate"),
    )
)
val_dataloader = test_dataloader
