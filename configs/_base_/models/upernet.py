"""UPerNet (Xiao et al. 2018): a feature pyramid of four maps, pooled at the top, aux 0.4."""

_base_ = "./segmentor.py"

norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    backbone=dict(type="backbones.ResNet", depth=50),
    decode_head=dict(
        type="UPerHead",
        in_index=[0, 1, 2, 3],
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=0.4),
    ),
)
