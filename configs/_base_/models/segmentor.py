"""What all segmentation models have: normalisation of images, both heads' settings, whole images.

The models beside this file name a backbone and a head, and state what differs. `in_channels` of
heads is left out: `seg.Segmentor` fills it in, so that a leaf config changes the backbone alone.
"""

_head = dict(
    dropout_ratio=0.1,
    num_classes=19,
    norm_cfg=dict(type="BN", requires_grad=True),
    align_corners=False,
)
_loss = dict(type="mmseg.CrossEntropyLoss", avg_non_ignore=True)

model = dict(
    type="seg.Segmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=1,  # training images are padded to the largest of their batch
    ),
    decode_head=dict(**_head, in_index=3, channels=512, loss_decode=dict(**_loss, loss_weight=1.0)),
    # PSPNet's: a 3x3 convolution and a classifier on layer3
    auxiliary_head=dict(
        type="FCNHead",
        **_head,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(**_loss, loss_weight=0.4),
    ),
    test_cfg=dict(mode="whole"),
)
