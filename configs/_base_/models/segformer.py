"""SegFormer's all-MLP head (Xie et al. 2021) on the four maps of a convolutional backbone."""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50),
    decode_head=dict(
        type="SegformerHead",
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
