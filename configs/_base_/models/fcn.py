"""FCN (Long et al. 2015) in today's form: output stride 8, two 3x3 convolutions, aux 0.4."""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(type="FCNHead", num_convs=2, concat_input=True),
)
