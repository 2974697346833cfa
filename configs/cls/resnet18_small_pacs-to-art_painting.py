"""As resnet18_small_pacs-to-sketch, with another target."""

_base_ = "./resnet18_small_pacs-to-sketch.py"

train_dataloader = dict(dataset=dict(exclude="art_painting"))
_sources = _base_.test_dataloader.sources
_target = _base_.test_dataloader.sketch
test_dataloader = dict(
    _delete_=True,
    sources={**_sources, "dataset": {**_sources.dataset, "exclude": "art_painting"}},
    art_painting={**_target, "dataset": {**_target.dataset, "domains": "art_painting"}},
)
val_dataloader = dict(sources=test_dataloader["sources"])
