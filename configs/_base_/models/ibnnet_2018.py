"""The network of IBN-Net (Pan et al. 2018): PSPNet without the pyramid module, bilinear x8.

The paper's code was never released. What PSPNet leaves without its pyramid is a 3x3 convolution to
512 channels, norm, ReLU, dropout and a 1x1 classifier at output stride 8, and PSPNet's auxiliary
loss.
"""

_base_ = "./pspnet.py"

norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_index=3,
        channels=512,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
