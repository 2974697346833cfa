"""Trained on MSMT17's list_train, tested there and, without any adaptation, on Market1501."""

_base_ = "./msmt17_256x128.py"

_domain = _base_.test_dataloader.msmt17
test_dataloader = dict(
    market1501={
        **_domain,
        "dataset": {**_domain.dataset, "type": "reid.Market1501", "root": "data/market1501"},
    },
)
val_dataloader = test_dataloader
