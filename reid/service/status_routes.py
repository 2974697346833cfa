"""What is served, whether all is well, and the numbers of the service."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .image_header import FORMATS
from .metrics import CONTENT_TYPE
from .parts import Parts, refusals
from .schemas import AuthBody, GalleryInfo, Health, LimitsBody, ThresholdBody

__all__ = ["status_routes"]


def status_routes(parts: Parts) -> APIRouter:
    """``/api/gallery``, ``/healthz`` and ``/metrics``."""
    router = APIRouter(tags=["status"])
    settings = parts.settings

    @router.get(
        "/api/gallery",
        response_model=GalleryInfo,
        responses=refusals(),
        dependencies=parts.reading,
        summary="What is served here",
    )
    async def about() -> GalleryInfo:
        gallery = parts.access.gallery
        overview = await parts.access.overview()
        threshold = settings.threshold
        return GalleryInfo(
            name=settings.name,
            rows=len(gallery),
            dim=gallery.dim,
            metric=gallery.metric,
            index=gallery.index,
            exact=gallery.index == "Flat",
            model=gallery.model,
            images=parts.takes_images,
            threshold=None
            if threshold is None
            else ThresholdBody(value=threshold.value, far=threshold.far),
            writable=settings.writable and settings.token is not None,
            auth=AuthBody(read=settings.read_needs_token, write=True),
            limits=LimitsBody(
                upload_bytes=settings.upload_bytes,
                upload_pixels=settings.upload_pixels,
                k=settings.max_k,
                window=settings.max_window,
                rerank=settings.max_rerank,
                expand=settings.max_expand,
                page=settings.max_page,
                wait_seconds=settings.wait_seconds,
                formats=list(FORMATS),
            ),
            **overview,
        )

    @router.get(
        "/healthz",
        response_model=Health,
        responses={
            **refusals(),
            503: {"model": Health, "description": "Degraded: searches work, changes do not."},
        },
        summary="Whether all is well",
    )
    async def health(response: Response) -> Health:
        await parts.access.look()
        if parts.access.trouble is None:
            return Health(status="ok")
        response.status_code = 503
        return Health(status="degraded", message=parts.access.trouble)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            **refusals(),
            200: {"description": "Prometheus text.", "content": {"text/plain": {}}},
        },
        dependencies=parts.reading,
        summary="Numbers for Prometheus",
    )
    async def metrics() -> Response:
        return Response(parts.metrics.text(), media_type=CONTENT_TYPE)

    return router
