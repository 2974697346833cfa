"""IBN-Net's on ImageNet: SGD 0.1 for batches of 256, x0.1 after 30, 60 and 90 of 100 epochs."""

train_cfg = dict(type="engine.EpochLoop", max_epochs=100, val_interval=1)
optim_wrapper = dict(
    # decay on everything, norms too
    optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type="MultiStepLR", milestones=[30, 60, 90], gamma=0.1)]
auto_scale_lr = dict(enable=False, base_batch_size=256)
