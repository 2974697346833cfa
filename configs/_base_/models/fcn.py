"""FCN (Long et al. 2015) in today's form: output stride 8, two 3x3 convolutions, aux 0.4."""

_base_ = "./pspnet.py"

norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_index=3,
        channels=512,
        num_convs=2,
        concat_input=True,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
