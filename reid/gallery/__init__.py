"""A gallery of feature vectors with their records: kept on disk, searched exactly.

Takes arrays and never a model. FAISS is imported at the first search, not here.
"""

from reid.gallery.errors import DamagedGalleryError, GalleryLockedError, UndecidedWriteError
from reid.gallery.faiss_install import import_faiss
from reid.gallery.gallery import Gallery, Hit

__all__ = [
    "DamagedGalleryError",
    "Gallery",
    "GalleryLockedError",
    "Hit",
    "UndecidedWriteError",
    "import_faiss",
]
