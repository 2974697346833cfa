"""From scratch in minutes: Adam 3.5e-4, 2 epochs of warm-up, x0.1 at 10 and 13 of 15 epochs."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=15, val_interval=15)
optim_wrapper = dict(optimizer=dict(type="Adam", lr=3.5e-4, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
    dict(type="MultiStepLR", milestones=[10, 13], gamma=0.1),
]
