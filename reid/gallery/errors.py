"""What can be wrong with a gallery on disk. Wrong arguments are plain ``ValueError``."""


class DamagedGalleryError(ValueError):
    """Files of a gallery are missing, cut short or changed; the message names them."""


class OtherVersionError(DamagedGalleryError):
    """A gallery of a format that this program does not read; there is nothing to repair."""


class GalleryLockedError(RuntimeError):
    """Another writer holds the gallery; the message names it."""


class UndecidedWriteError(OSError):
    """The disk failed at the last step of a write, and again while that was being undone."""
