"""A short ImageNet recipe: batches of 1024, SGD with Nesterov up to 2.0, cosine, 36 epochs.

For images of 176 pixels (Touvron et al. 2019: train smaller than you test), about a quarter of the
GPU time of 100 epochs at 224.
"""

_base_ = "./cls_short_30e.py"

train_cfg = dict(max_epochs=36, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=2.0, weight_decay=5e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        begin=5,
        end=36,
        convert_to_iter_based=True,
    ),
]
