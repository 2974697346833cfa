"""Cross-domain semantic segmentation on mmsegmentation: train on one domain, test on others."""

import warnings

# What mmcv and mmseg say at every start and no user can act on: operators that nothing here needs,
# and a preference for image sizes that other parts of mmseg do not follow.
for _message in ("Fail to import ``MultiScaleDeformableAttention``", "When align_corners=True"):
    warnings.filterwarnings("ignore", message=_message)
