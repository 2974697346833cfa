"""The strong baseline's schedule: 120 epochs, warm-up for 10, x0.1 at 40 and 70."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=120, val_interval=40)
optim_wrapper = dict(optimizer=dict(type="Adam", lr=3.5e-4, weight_decay=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=10, convert_to_iter_based=True),
    dict(type="MultiStepLR", milestones=[40, 70], gamma=0.1),
]
