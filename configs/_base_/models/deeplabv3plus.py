"""DeepLabV3+ as in RobustNet (Choi et al. 2021): output stride 16, rates 6, 12, 18, aux 0.4.

Output stride 8: `backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))` and
`decode_head=dict(dilations=(12, 24, 36))`.
"""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(
        type="seg.DeepLabV3PlusHead",
        channels=256,
        dilations=(6, 12, 18),
        c1_in_channels=None,
        c1_channels=48,
        dropout_ratio=0.0,
        align_corners=True,
    ),
    auxiliary_head=dict(channels=512, align_corners=True),
)
