"""VehicleID at 256x256: three test sets, each the mean over ten draws of the gallery."""

_base_ = "./veri776_256x256.py"

data_root = "data/vehicleid"

_domain = _base_.test_dataloader.veri776
_dataset = {**_domain.dataset, "type": "reid.VehicleID", "root": data_root}
train_dataloader = dict(dataset=dict(type="reid.VehicleID", root=data_root))
test_dataloader = dict(
    _delete_=True,
    vehicleid_small={**_domain, "dataset": {**_dataset, "size": "small"}},
    vehicleid_medium={**_domain, "dataset": {**_dataset, "size": "medium"}},
    vehicleid_large={**_domain, "dataset": {**_dataset, "size": "large"}},
)
val_dataloader = dict(_delete_=True, vehicleid_small=test_dataloader["vehicleid_small"])
