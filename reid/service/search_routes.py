"""Search by image, by row and by vector."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from pydantic import ValidationError

from reid.gallery import Gallery

from .errors import ServiceError, describe_invalid
from .parts import Parts, only, refusals, show_record, thumbnail_addresses
from .schemas import HitBody, IdSearch, QueryBody, SearchAnswer, SearchOptions, VectorSearch
from .settings import Settings
from .uploads import parse_crop

__all__ = ["search_routes"]

_ORDERED = ("$lt", "$lte", "$gt", "$gte")


def search_routes(parts: Parts) -> APIRouter:
    """The routes ``/api/search/...``."""
    router = APIRouter(prefix="/api/search", tags=["search"], dependencies=parts.reading)

    @router.post(
        "/image",
        response_model=SearchAnswer,
        responses=refusals(415, 422, 501),
        dependencies=[only("image", "options", "crop")],
        summary="By image",
    )
    async def by_image(
        image: Annotated[UploadFile, File(description="A JPEG, PNG or WebP file.")],
        options: Annotated[
            str, Form(description="SearchOptions as JSON text.", examples=['{"k": 10}'])
        ] = "{}",
        crop: Annotated[
            str | None,
            Form(description="x,y,w,h in pixels of the image as a person sees it."),
        ] = None,
    ) -> SearchAnswer:
        began = time.perf_counter()
        wanted = _parse_options(options)
        _check_limits(wanted, parts.settings)
        embedding = parts.embedding
        async with parts.uploads.take(image, parse_crop(crop)) as upload:
            feature = await embedding(upload.pixels)
            query = QueryBody(
                sha256=upload.sha256,
                width=upload.width,
                height=upload.height,
                crop=None if upload.crop is None else list(upload.crop),
            )
        return await _search(parts, wanted, query, lambda _: feature, began)

    @router.post("/id", response_model=SearchAnswer, responses=refusals(404, 422), summary="By row")
    async def by_id(wanted: IdSearch) -> SearchAnswer:
        began = time.perf_counter()
        _check_limits(wanted, parts.settings)

        def find(gallery: Gallery) -> np.ndarray:
            vector: np.ndarray = gallery.vectors([wanted.id])[0]
            return vector

        return await _search(parts, wanted, QueryBody(id=wanted.id), find, began)

    @router.post(
        "/vector", response_model=SearchAnswer, responses=refusals(422), summary="By vector"
    )
    async def by_vector(wanted: VectorSearch) -> SearchAnswer:
        began = time.perf_counter()
        _check_limits(wanted, parts.settings)
        gallery = parts.access.gallery
        if len(wanted.vector) != gallery.dim:
            raise ServiceError(
                422,
                "wrong_length",
                f"The vector has {len(wanted.vector)} numbers; the gallery's have {gallery.dim}.",
            )
        if None not in (wanted.model, gallery.model) and wanted.model != gallery.model:
            raise ServiceError(
                422,
                "other_model",
                f"The gallery holds features of the model {gallery.model}; those of another cannot "
                "be compared with them.",
            )
        vector = np.array(wanted.vector, np.float64)
        return await _search(parts, wanted, QueryBody(), lambda _: vector, began)

    return router


def _parse_options(text: str) -> SearchOptions:
    try:
        return SearchOptions.model_validate_json(text or "{}")
    except ValidationError as error:
        found = [{**item, "loc": ("options", *item["loc"])} for item in error.errors()]
        raise ServiceError(422, "invalid", describe_invalid(found)) from None


def _check_limits(wanted: SearchOptions, settings: Settings) -> None:
    for name, value, most in (
        ("k", wanted.k, settings.max_k),
        ("offset + k", wanted.offset + wanted.k, settings.max_window),
        ("rerank", wanted.rerank or 0, settings.max_rerank),
        ("expand", wanted.expand or 0, settings.max_expand),
    ):
        if value > most:
            raise ServiceError(422, "too_many", f"{name} is {value}; at most {most} is accepted.")
    check_where(wanted.where, settings)


def check_where(where: dict[str, Any] | None, settings: Settings) -> None:
    """Refuse to ask for paths that are not shown: the answers would tell them.

    Raises:
        ServiceError: 422.
    """
    asked = (where or {}).get("image")
    if asked is None or settings.show_paths:
        return
    if isinstance(asked, dict) and set(asked) & set(_ORDERED):
        raise ServiceError(422, "invalid", "where: image can be compared for equality only.")
    if not all(text.startswith("sha256:") for text in _texts(asked)):
        message = "where: of image, only what the service has added (sha256:...) can be asked for."
        raise ServiceError(422, "invalid", message)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


async def _search(
    parts: Parts,
    wanted: SearchOptions,
    query: QueryBody,
    find: Callable[[Gallery], np.ndarray],
    began: float,
) -> SearchAnswer:
    settings = parts.settings
    depth = wanted.offset + wanted.k

    def run(gallery: Gallery) -> SearchAnswer:
        found = gallery.search(
            find(gallery)[None],
            depth,
            exclude_cameras=None if wanted.exclude_camera is None else [wanted.exclude_camera],
            where=wanted.where,
            exclude_ids=None if query.id is None else [[query.id]],
            min_score=wanted.min_score,
            group_by=wanted.group_by,
            rerank=wanted.rerank,
            expand=wanted.expand,
            exact=wanted.exact,
        )
        shown = found[0][wanted.offset :]
        pictures = thumbnail_addresses(gallery, [hit.id for hit in shown])
        hits = [
            HitBody(
                id=hit.id,
                rank=rank,
                score=hit.score,
                distance=hit.distance,
                reranked=hit.reranked,
                pid=hit.record.get("pid"),
                camera=hit.record.get("camera"),
                time=hit.record.get("time"),
                record=show_record(hit.record, settings),
                thumbnail=picture,
            )
            for rank, (hit, picture) in enumerate(
                zip(shown, pictures, strict=True), wanted.offset + 1
            )
        ]
        more = len(found[0]) == depth < int(found.allowed[0])
        return SearchAnswer(
            hits=hits,
            total_allowed=int(found.allowed[0]),
            exact=found.exact,
            notes=found.notes,
            next_offset=depth if more and depth + wanted.k <= settings.max_window else None,
            seconds=time.perf_counter() - began,
            query=query,
            rows=len(gallery),
        )

    return await parts.access.read(run)
