"""With MixStyle after the first two stages, and colours and textures at random in the images."""

_base_ = "./resnet50_ibn_b_robustnet_gta5-to-cityscapes.py"

model = dict(style=[dict(type="seg.MixStyle", after=("layer1", "layer2"))])
train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type="seg.StyleRandomization", p=0.5),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
