"""Trained on all images of MSMT17 (126,441), tested on Market1501, where nothing was adapted.

Not on MSMT17: its test images are trained on.
"""

_base_ = "./msmt17_256x128.py"

_domain = _base_.test_dataloader.msmt17
train_dataloader = dict(dataset=dict(train="all"))
test_dataloader = dict(
    _delete_=True,
    market1501={
        **_domain,
        "dataset": {**_domain.dataset, "type": "reid.Market1501", "root": "data/market1501"},
    },
)
val_dataloader = test_dataloader
