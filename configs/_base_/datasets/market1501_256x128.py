"""Market1501, 256x128, batches of 16 identities x 4 images, as the strong baseline has it."""

data_root = "data/market1501"

train_pipeline = [
    dict(type="Resize", height=256, width=128),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=10),
    dict(type="RandomCrop", height=256, width=128),
    # filled with the mean colour, which is zero once the image is normalised
    dict(
        type="RandomErasing", scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3), fill=(124, 116, 104), p=0.5
    ),
]
test_pipeline = [dict(type="Resize", height=256, width=128)]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    dataset=dict(type="reid.Market1501", root=data_root, split="train", transforms=train_pipeline),
    sampler=dict(type="reid.PKSampler", identities=16, instances=4, iterations=200),
    collate_fn=dict(type="reid.collate"),
)
test_dataloader = dict(
    market1501=dict(
        batch_size=128,
        num_workers=4,
        dataset=dict(
            type="reid.Market1501", root=data_root, split="test", transforms=test_pipeline
        ),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
        collate_fn=dict(type="reid.collate"),
    )
)
val_dataloader = test_dataloader
