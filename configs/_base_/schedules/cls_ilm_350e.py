"""ILM-Norm's on CIFAR: batches of 32, SGD 0.1, decay 5e-4, x0.1 after 150 and 250 of 350 epochs.

Their code means to scale the rate by batch / 256 but does so once the optimiser is built, so 0.1
is what their networks are trained with.
"""

train_cfg = dict(type="engine.EpochLoop", max_epochs=350, val_interval=1)
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4),
    # the three names of ILM's encoder are one parameter
    paramwise_cfg=dict(bypass_duplicate=True),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[150, 250], gamma=0.1)]
