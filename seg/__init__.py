"""Cross-domain semantic segmentation on mmsegmentation: train on one domain, test on others."""
