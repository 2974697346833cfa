"""CUHK03 at 256x128: the new protocol (767 / 700 identities), boxes drawn by hand."""

_base_ = "./market1501_256x128.py"

data_root = "data/cuhk03"

_domain = _base_.test_dataloader.market1501
train_dataloader = dict(
    dataset=dict(type="reid.CUHK03", root=data_root, protocol="new", boxes="labelled"),
    sampler=dict(iterations=200),  # short epochs of a small set
)
test_dataloader = dict(
    _delete_=True,
    cuhk03={
        **_domain,
        "dataset": {
            **_domain.dataset,
            "type": "reid.CUHK03",
            "root": data_root,
            "protocol": "new",
            "boxes": "labelled",
        },
    },
)
val_dataloader = test_dataloader
