"""A gallery of feature vectors with their records: kept durably, searched exactly, served.

Takes arrays and never a model. FAISS, the Milvus client and torch are imported where they are used.
"""

from reid.gallery.errors import (
    DamagedGalleryError,
    GalleryLockedError,
    OtherVersionError,
    UndecidedWriteError,
)
from reid.gallery.exchange import copy_gallery, export_gallery, import_gallery
from reid.gallery.faiss_install import import_faiss
from reid.gallery.gallery import Gallery
from reid.gallery.hits import Hit, SearchResult

__all__ = [
    "DamagedGalleryError",
    "Gallery",
    "GalleryLockedError",
    "Hit",
    "OtherVersionError",
    "SearchResult",
    "UndecidedWriteError",
    "copy_gallery",
    "export_gallery",
    "import_faiss",
    "import_gallery",
]
