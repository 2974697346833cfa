"""MSMT17 at 384x128, trained on list_train alone (30,248 images)."""

_base_ = "./market1501_384x128.py"

data_root = "data/msmt17"

_domain = _base_.test_dataloader.market1501
train_dataloader = dict(
    dataset=dict(type="reid.MSMT17", root=data_root, train="train"),
    sampler=dict(iterations=None),  # as many as show about every image once
)
test_dataloader = dict(
    _delete_=True,
    msmt17={**_domain, "dataset": {**_domain.dataset, "type": "reid.MSMT17", "root": data_root}},
)
val_dataloader = test_dataloader
