"""A gallery, and a function that embeds images, as a web application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import numpy as np
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from reid.gallery import Gallery

from .embedding import Embed, Embedding
from .entrance import Entrance
from .errors import on_http_error, on_invalid
from .gallery_access import GalleryAccess
from .metrics import Metrics
from .pages import page_routes
from .parts import Parts
from .row_routes import row_routes
from .search_routes import search_routes
from .security import Guard
from .settings import Settings
from .status_routes import status_routes
from .uploads import Uploads

__all__ = ["create_app"]


def create_app(
    gallery: Gallery, embed: Embed | None = None, settings: Settings | None = None
) -> FastAPI:
    """The application of one gallery.

    Args:
        gallery: open; the application closes it when it ends.
        embed: N images (h, w, 3) uint8 RGB -> (N, dim) features of the gallery's model. None:
            images can be neither searched for nor added.
        settings: see :class:`Settings`.

    Raises:
        ValueError: at the start of the application, where ``embed`` does not fit the gallery.
    """
    settings = settings or Settings()
    metrics = Metrics()
    parts = Parts(settings, metrics, Guard(settings), embed is not None)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if embed is not None:
            await asyncio.to_thread(_try_out, embed, gallery.dim)
        await asyncio.to_thread(_warm_up, gallery)
        with contextlib.ExitStack() as ending:
            access = GalleryAccess(gallery, settings, metrics)
            ending.callback(access.close)
            uploads = Uploads(settings, metrics)
            ending.callback(uploads.close)
            parts.started |= {"access": access, "uploads": uploads}
            if embed is not None:
                embedding = Embedding(embed, gallery.dim, settings, metrics)
                ending.callback(embedding.close)
                parts.started["embedding"] = embedding
            refreshing = asyncio.create_task(access.keep_fresh())
            try:
                yield
            finally:
                refreshing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await refreshing

    app = FastAPI(
        title="reidseg gallery",
        summary="Search a gallery of feature vectors by image, row or vector.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,
        exception_handlers={HTTPException: on_http_error, RequestValidationError: on_invalid},
    )
    app.include_router(search_routes(parts))
    app.include_router(row_routes(parts))
    app.include_router(status_routes(parts))
    app.include_router(page_routes())
    app.add_middleware(Entrance, guard=parts.guard, settings=settings, metrics=metrics)
    app.state.parts = parts
    return app


def _warm_up(gallery: Gallery) -> None:
    """Search once: what is imported or compiled for the first search is there for the next."""
    if len(gallery):
        gallery.search(np.ones((1, gallery.dim), np.float32), 1)


def _try_out(embed: Embed, dim: int) -> None:
    """Embed a grey image: the first real query then finds a warm network that fits."""
    features = np.asarray(embed([np.full((64, 32, 3), 128, np.uint8)]))
    if features.shape != (1, dim):
        raise ValueError(
            f"the embedding function gives features of shape {features.shape}; the gallery holds "
            f"dimension {dim}. Use the model that filled the gallery."
        )
