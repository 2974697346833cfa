"""The thin network for 32x32 images, 16, 32 and 64 channels (He et al. 2016), in CIFAR's colours.

Mean and standard deviation are those of CIFAR-10, which BIN's authors use for both sets.
"""

_base_ = "./classifier.py"

model = dict(
    backbone=dict(_delete_=True, type="backbones.CifarResNet", depth=20, norm="bn", num_classes=10),
    data_preprocessor=dict(
        type="engine.ImageNormalizer",
        mean=(125.307, 122.9505, 113.865),  # .4914 .4822 .4465
        std=(51.5865, 50.847, 51.255),  # .2023 .1994 .2010
    ),
)
