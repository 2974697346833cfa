"""fast-reid's stronger baseline: 10 epochs of warm-up, flat to 30 of 60, then a cosine to 7e-7."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=60, val_interval=20)
optim_wrapper = dict(optimizer=dict(type="Adam", lr=3.5e-4, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=7e-7, begin=30, end=60, convert_to_iter_based=True),
]
