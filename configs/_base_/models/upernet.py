"""UPerNet (Xiao et al. 2018): a feature pyramid of four maps, pooled at the top, aux 0.4."""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50),
    decode_head=dict(type="UPerHead", in_index=[0, 1, 2, 3], pool_scales=(1, 2, 3, 6)),
)
