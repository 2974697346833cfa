"""PSPNet (Zhao et al. 2017): output stride 8, pyramid pooling 1, 2, 3, 6, auxiliary loss 0.4."""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(type="PSPHead", pool_scales=(1, 2, 3, 6)),
)
