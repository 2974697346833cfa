"""Two drawn cities (tools/prepare_data.py synthetic): train on noon, test on noon and on dusk."""

_base_ = "./market1501_128x64.py"

data_root = "demo/noon"

train_dataloader = dict(dataset=dict(root=data_root), sampler=dict(iterations=50))
_domain = _base_.test_dataloader.market1501
test_dataloader = dict(
    _delete_=True,
    noon={**_domain, "dataset": {**_domain.dataset, "root": data_root}},
    dusk={**_domain, "dataset": {**_domain.dataset, "root": "demo/dusk"}},
)
val_dataloader = test_dataloader
