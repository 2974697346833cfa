"""As resnet18_small_market1501, with ILM on GN."""

_base_ = "./resnet18_small_market1501.py"

model = dict(backbone=dict(norm=dict(type="backbones.ILM", base="gn")))
optim_wrapper = dict(
    paramwise_cfg=dict(bypass_duplicate=True),  # the encoder has three names
)
