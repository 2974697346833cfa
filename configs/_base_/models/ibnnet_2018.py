"""The network of IBN-Net (Pan et al. 2018): PSPNet without the pyramid module, bilinear x8.

The paper's code was never released. What PSPNet leaves without its pyramid is a 3x3 convolution to
512 channels, norm, ReLU, dropout and a 1x1 classifier at output stride 8, and PSPNet's auxiliary
loss.
"""

_base_ = "./fcn.py"

model = dict(decode_head=dict(num_convs=1, concat_input=False))
