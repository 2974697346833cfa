"""What all segmentation models have: how images are normalised, and how a test image is seen.

The models beside this file state a backbone of ResNet-50 and leave `in_channels` of their heads
out: `seg.Segmentor` fills them in, so that a leaf config changes the backbone and nothing else.
Their losses are averaged over the labelled pixels (mmseg's default counts the ignored ones, too).
"""

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
    test_cfg=dict(mode="whole"),
)
