"""VERI-Wild at 256x256: three test sets; same-camera matches do not count."""

_base_ = "./veri776_256x256.py"

data_root = "data/veri-wild"

_domain = _base_.test_dataloader.veri776
_dataset = {**_domain.dataset, "type": "reid.VERIWild", "root": data_root}
train_dataloader = dict(dataset=dict(type="reid.VERIWild", root=data_root))
test_dataloader = dict(
    _delete_=True,
    veri_wild_small={**_domain, "dataset": {**_dataset, "size": "small"}},
    veri_wild_medium={**_domain, "dataset": {**_dataset, "size": "medium"}},
    veri_wild_large={**_domain, "dataset": {**_dataset, "size": "large"}},
)
val_dataloader = dict(_delete_=True, veri_wild_small=test_dataloader["veri_wild_small"])
