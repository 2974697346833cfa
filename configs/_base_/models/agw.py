"""AGW (Ye et al. 2021, https://arxiv.org/abs/2001.04193): non-local, GeM, weighted triplets.

The published code computes one inner channel for its non-local blocks, and its numbers are with
that; `model.backbone.non_local_channels=None` is half of the channels, as in the paper.
"""

_base_ = "./embedder.py"

model = dict(
    backbone=dict(non_local=(0, 2, 3, 0), non_local_channels=1),
    pooling="gem",
    losses=[
        dict(type="reid.CrossEntropyLoss", label_smoothing=0.1),
        dict(type="reid.TripletLoss", margin="soft", mining="weighted"),
    ],
)
