"""From scratch in minutes on a few hundred images: AdamW 1e-3, cosine, 30 epochs."""

_base_ = "./cls_short_30e.py"

train_cfg = dict(val_interval=30)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
