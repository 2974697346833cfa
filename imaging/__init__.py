"""Image files and augmentation: what re-identification and classification do alike with pixels.

Nothing is imported here; albumentations is slow to import and not always needed.
"""
