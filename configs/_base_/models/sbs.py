"""fast-reid's stronger baseline: AGW's network, circle softmax, soft-margin batch-hard triplets."""

_base_ = "./agw.py"

model = dict(
    losses=[
        dict(type="reid.CircleSoftmaxLoss", scale=64, margin=0.35, label_smoothing=0.1),
        dict(type="reid.TripletLoss", margin="soft"),
    ],
)
