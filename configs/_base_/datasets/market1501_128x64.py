"""Market1501 at 128x64, a size that a CPU trains: a quarter of the pixels, two workers."""

data_root = "data/market1501"

train_pipeline = [
    dict(type="Resize", height=128, width=64),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=5),
    dict(type="RandomCrop", height=128, width=64),
    # filled with the mean colour, which is zero once the image is normalised
    dict(
        type="RandomErasing", scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill=(124, 116, 104), p=0.5
    ),
]
test_pipeline = [dict(type="Resize", height=128, width=64)]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(type="reid.Market1501", root=data_root, split="train", transforms=train_pipeline),
    sampler=dict(type="reid.PKSampler", identities=16, instances=4, iterations=130),
    collate_fn=dict(type="reid.collate"),
)
test_dataloader = dict(
    market1501=dict(
        batch_size=128,
        num_workers=2,
        dataset=dict(
            type="reid.Market1501", root=data_root, split="test", transforms=test_pipeline
        ),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
        collate_fn=dict(type="reid.collate"),
    )
)
val_dataloader = test_dataloader
