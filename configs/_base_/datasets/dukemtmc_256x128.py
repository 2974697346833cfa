"""DukeMTMC-reID at 256x128, prepared as Market1501 is."""

_base_ = "./market1501_256x128.py"

data_root = "data/dukemtmc-reid"

_domain = _base_.test_dataloader.market1501
train_dataloader = dict(
    dataset=dict(type="reid.DukeMTMCreID", root=data_root),
    sampler=dict(iterations=None),  # as many as show about every image once
)
test_dataloader = dict(
    _delete_=True,
    dukemtmc={
        **_domain,
        "dataset": {**_domain.dataset, "type": "reid.DukeMTMCreID", "root": data_root},
    },
)
val_dataloader = test_dataloader
