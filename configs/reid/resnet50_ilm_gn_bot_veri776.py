"""As resnet50_bot_veri776, with ILM on GN."""

_base_ = "./resnet50_bot_veri776.py"

model = dict(backbone=dict(norm=dict(type="backbones.ILM", base="gn")), plain_weights=True)
optim_wrapper = dict(
    paramwise_cfg=dict(bypass_duplicate=True),  # the encoder has three names
)
