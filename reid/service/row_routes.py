"""Rows: listed, shown, added, changed, removed."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Query, Response, UploadFile

from reid.gallery import Gallery

from .errors import ServiceError
from .image_header import media_type
from .parts import Parts, only, refusals, show_record, thumbnail_addresses
from .plain_json import check_plain
from .schemas import AddedRow, Changed, Plain, Removal, Row, RowPage
from .search_routes import check_where
from .security import may_change
from .settings import Settings

__all__ = ["row_routes"]

_Id = Annotated[int, Path(ge=0, lt=2**63, description="The id of a row.")]

_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp")
        },
    }
}


def row_routes(parts: Parts) -> APIRouter:
    """The routes ``/api/rows...``."""
    router = APIRouter(prefix="/api/rows", tags=["rows"])
    settings = parts.settings

    @router.get(
        "",
        response_model=RowPage,
        responses=refusals(422),
        dependencies=[*parts.reading, only("offset", "limit", "where")],
        summary="List rows",
    )
    async def list_rows(
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
        where: Annotated[
            str | None,
            Query(description="A filter as JSON text.", examples=['{"camera": 2}']),
        ] = None,
    ) -> RowPage:
        if limit > settings.max_page:
            raise _too_many("limit", limit, settings.max_page)
        wanted = None if where is None else _parse_object(where, "where")
        check_where(wanted, settings)
        return await parts.access.read(lambda g: _page(g, offset, limit, wanted, settings))

    @router.get(
        "/{id}",
        response_model=Row,
        responses=refusals(404, 422),
        dependencies=parts.reading,
        summary="Show a row",
    )
    async def show(id: _Id) -> Row:
        return await parts.access.read(lambda g: _rows(g, [id], settings)[0])

    @router.get(
        "/{id}/thumbnail",
        responses={**refusals(404, 422), **_PICTURES},
        dependencies=parts.reading,
        response_class=Response,
        summary="The stored picture of a row",
    )
    async def thumbnail(id: _Id) -> Response:
        picture = await parts.access.read(lambda g: g.thumbnail(id))
        if picture is None:
            raise ServiceError(404, "no_picture", "No picture is stored with this row.")
        headers = {"Cache-Control": "private, max-age=300"}  # an id never gets another picture
        kind = media_type(picture) or "application/octet-stream"
        return Response(picture, media_type=kind, headers=headers)

    @router.post(
        "",
        response_model=AddedRow,
        status_code=201,
        responses=refusals(409, 415, 422, 501),
        dependencies=[Depends(may_change), only("image", "record", "allow_duplicate")],
        summary="Add an image",
    )
    async def add(
        image: Annotated[UploadFile, File(description="A JPEG, PNG or WebP file.")],
        record: Annotated[
            str,
            Form(
                description="pid, camera, time and free fields as JSON text, without image.",
                examples=['{"pid": 7, "camera": 2}'],
            ),
        ] = "{}",
        allow_duplicate: Annotated[
            bool, Form(description="Add it even if the same file is in the gallery.")
        ] = False,
    ) -> AddedRow:
        fields = _parse_object(record, "record")
        _check_record(fields, settings)
        embedding = parts.embedding
        async with parts.uploads.take(image, thumbnail=True) as upload:
            feature = await embedding(upload.pixels)
            name, picture = f"sha256:{upload.sha256}", upload.thumbnail

        def write(gallery: Gallery) -> int:
            gallery.refresh()
            if not allow_duplicate:
                same = gallery.search(feature[None], 1, where={"image": name}, exact=True)[0]
                if same:
                    row_id = same[0].id
                    raise ServiceError(
                        409,
                        "duplicate",
                        f"This image is in the gallery already, as row {row_id}.",
                        id=row_id,
                    )
            rows = [{**fields, "image": name}]
            return gallery.add(feature[None], rows, thumbnails=[picture])[0]

        return AddedRow(id=await parts.access.change(write))

    @router.patch(
        "/{id}",
        response_model=Row,
        responses=refusals(404, 422),
        dependencies=[Depends(may_change)],
        summary="Change fields of a row",
    )
    async def change(id: _Id, fields: Plain) -> Row:
        _check_record(fields, settings)

        def write(gallery: Gallery) -> Row:
            gallery.refresh()
            merged = {**gallery.records[id], **fields}
            _check_size(merged, settings)
            gallery.update({id: fields})
            return _rows(gallery, [id], settings)[0]

        return await parts.access.change(write)

    @router.delete(
        "/{id}",
        response_model=Changed,
        responses=refusals(404, 422),
        dependencies=[Depends(may_change)],
        summary="Remove a row",
    )
    async def remove(id: _Id) -> Changed:
        return Changed(rows=await parts.access.change(lambda g: _remove(g, [id])))

    @router.post(
        "/remove",
        response_model=Changed,
        responses=refusals(404, 422),
        dependencies=[Depends(may_change)],
        summary="Remove rows, all or none",
    )
    async def remove_many(wanted: Removal) -> Changed:
        if len(wanted.ids) > settings.max_page:
            raise _too_many("the number of ids", len(wanted.ids), settings.max_page)
        return Changed(rows=await parts.access.change(lambda g: _remove(g, wanted.ids)))

    return router


def _too_many(name: str, value: int, most: int) -> ServiceError:
    return ServiceError(422, "too_many", f"{name} is {value}; at most {most} is accepted.")


def _parse_object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return dict(check_plain(value))
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is no JSON text"
        raise ServiceError(
            422, "invalid", f'{name} must be a JSON object such as {{"camera": 2}}: {reason}.'
        ) from None


def _check_record(fields: dict[str, Any], settings: Settings) -> None:
    if "image" in fields:
        raise ServiceError(422, "invalid", "record: the field image is set by the service.")
    if len(fields) > 64 or any(not name or len(name) > 64 for name in fields):
        raise ServiceError(
            422, "invalid", "record: at most 64 fields, names of 1 to 64 characters."
        )
    _check_size(fields, settings)


def _check_size(record: dict[str, Any], settings: Settings) -> None:
    if len(json.dumps(record)) > settings.record_bytes:
        raise ServiceError(
            422, "invalid", f"record: at most {settings.record_bytes:,} bytes of JSON."
        )


def _page(
    gallery: Gallery, offset: int, limit: int, where: dict[str, Any] | None, settings: Settings
) -> RowPage:
    ids = gallery.ids(where or None)
    shown = ids[offset : offset + limit]
    return RowPage(
        rows=_rows(gallery, shown, settings),
        total=len(ids),
        next_offset=offset + limit if offset + limit < len(ids) else None,
    )


def _rows(gallery: Gallery, ids: list[int], settings: Settings) -> list[Row]:
    """KeyError for an id that is not there."""
    rows = zip(ids, gallery.records_of(ids), thumbnail_addresses(gallery, ids), strict=True)
    return [Row(id=i, record=show_record(r, settings), thumbnail=t) for i, r, t in rows]


def _remove(gallery: Gallery, ids: list[int]) -> int:
    gallery.refresh()
    records = gallery.records
    unknown = [row_id for row_id in ids if row_id not in records]
    if unknown:
        shown = ", ".join(map(str, unknown[:10]))
        raise ServiceError(404, "unknown_id", f"There are no rows {shown}. Nothing was removed.")
    return gallery.remove(ids)
