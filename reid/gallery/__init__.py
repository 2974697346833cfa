"""A gallery of feature vectors with their records: kept durably, searched exactly, served.

Takes arrays and never a model. FAISS, the Milvus client and torch are imported where they are used.
"""

from reid.gallery.errors import DamagedGalleryError, GalleryLockedError, UndecidedWriteError
from reid.gallery.faiss_install import import_faiss
from reid.gallery.gallery import Gallery
from reid.gallery.hits import Hit, SearchResult

__all__ = [
    "DamagedGalleryError",
    "Gallery",
    "GalleryLockedError",
    "Hit",
    "SearchResult",
    "UndecidedWriteError",
    "import_faiss",
]
