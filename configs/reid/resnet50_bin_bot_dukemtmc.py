"""As resnet50_bot_dukemtmc, with BIN, whose gates learn faster."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(norm="bin"), plain_weights=True)
optim_wrapper = dict(  # ten times the rate and no decay, as BIN's authors
    paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10.0, decay_mult=0.0)}),
)
