"""CIFAR-100 in its original files, its 100 fine classes."""

_base_ = "./cifar10.py"

data_root = "data/cifar-100-python"

train_dataloader = dict(dataset=dict(type="cls.CIFAR100", root=data_root))
_domain = _base_.test_dataloader.cifar10
test_dataloader = dict(
    _delete_=True,
    cifar100={
        **_domain,
        "dataset": {**_domain.dataset, "type": "cls.CIFAR100", "root": data_root},
    },
)
val_dataloader = test_dataloader
