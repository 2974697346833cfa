"""Office-Home's four domains mixed (BIN's experiment), each tested apart; 224, as ImageNet.

The paper does not say how it splits the data: 90% of each class of each domain are trained on.
"""

_base_ = "./imagenet.py"

data_root = "data/office_home"

_data = dict(type="cls.DomainFolder", root=data_root, fraction=0.9)
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(_delete_=True, **_data, split="train", transforms=_base_.train_pipeline),
)
_loader = dict(
    batch_size=100,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="cls.collate"),
)
_held_out = dict(**_data, split="val", transforms=_base_.test_pipeline)
test_dataloader = dict(
    _delete_=True,
    art=dict(**_loader, dataset=dict(**_held_out, domains="Art")),
    clipart=dict(**_loader, dataset=dict(**_held_out, domains="Clipart")),
    product=dict(**_loader, dataset=dict(**_held_out, domains="Product")),
    real_world=dict(**_loader, dataset=dict(**_held_out, domains="Real World")),
)
val_dataloader = test_dataloader
