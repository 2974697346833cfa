"""What is sent and answered: the shapes of the API, which its OpenAPI description is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from .plain_json import check_plain

__all__ = [
    "AddedRow",
    "Changed",
    "ErrorBody",
    "GalleryInfo",
    "Health",
    "HitBody",
    "IdSearch",
    "Removal",
    "Row",
    "RowPage",
    "SearchAnswer",
    "SearchOptions",
    "VectorSearch",
]


def _text(value: str) -> str:
    return str(check_plain(value))


RowId = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Text = Annotated[StrictStr, Field(min_length=1, max_length=256), AfterValidator(_text)]
Camera = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)] | Text
Plain = Annotated[dict[str, Any], AfterValidator(check_plain)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchOptions(_Asked):
    """How to search; all may be left out."""

    k: StrictInt = Field(20, ge=1, le=10_000, description="Hits wanted.")
    offset: StrictInt = Field(0, ge=0, le=10_000, description="Hits to leave out at the front.")
    where: Plain | None = Field(
        None,
        description="Rows that may be found: field -> value, list of values, or operators $eq $ne "
        "$in $nin $lt $lte $gt $gte.",
        examples=[{"camera": [1, 2], "time": {"$gte": 43200}}],
    )
    exclude_camera: Camera | None = Field(None, description="A camera whose rows are left out.")
    min_score: float | None = Field(
        None, strict=True, allow_inf_nan=False, description="Lowest score of a hit."
    )
    group_by: Text | None = Field(
        None, description="A field: of the rows that share its value only the best counts."
    )
    rerank: StrictInt | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Order the so many best anew, by k-reciprocal re-ranking.",
    )
    expand: StrictInt | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Search again with the mean of the query and its best hits.",
    )
    exact: StrictBool = Field(False, description="Do not use an approximate index.")


class IdSearch(SearchOptions):
    """Search for what is like a row of the gallery."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"id": 7, "k": 10}]})
    id: RowId


class VectorSearch(SearchOptions):
    """Search for what is like a vector."""

    vector: list[Annotated[float, Field(strict=True, allow_inf_nan=False)]] = Field(
        min_length=1, max_length=65_536, description="As many numbers as the gallery's dimension."
    )
    model: Text | None = Field(None, description="Fingerprint of the model that made the vector.")


class Removal(_Asked):
    """Rows to remove, all or none."""

    ids: list[RowId] = Field(min_length=1, max_length=10_000, examples=[[3, 4]])


class HitBody(BaseModel):
    """A row that was found."""

    id: int
    rank: int = Field(description="From 1; counts the hits that offset left out.")
    score: float = Field(description="Higher is more alike.")
    distance: float = Field(description="Lower is more alike.")
    reranked: float | None = Field(description="The distance that re-ranking ordered by.")
    pid: int | str | None
    camera: int | str | None
    time: int | float | str | None
    record: dict[str, Any]
    thumbnail: str | None = Field(description="Address of the stored picture.")


class QueryBody(BaseModel):
    """What was searched for."""

    id: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    crop: list[int] | None = None
    """x, y, w, h as used."""


class SearchAnswer(BaseModel):
    """Hits, the best first."""

    hits: list[HitBody]
    total_allowed: int = Field(description="Rows that the filters let the query see.")
    exact: bool = Field(description="Whether all of them were compared.")
    notes: list[str]
    next_offset: int | None
    seconds: float
    query: QueryBody
    rows: int = Field(description="Rows of the gallery.")


class Row(BaseModel):
    """A row without its vector."""

    id: int
    record: dict[str, Any]
    thumbnail: str | None


class RowPage(BaseModel):
    """Some rows, by ascending id."""

    rows: list[Row]
    total: int
    next_offset: int | None


class AddedRow(BaseModel):
    """The id of a row that is durable now."""

    id: int


class Changed(BaseModel):
    """Rows that were changed or removed."""

    rows: int


class CameraRows(BaseModel):
    """A camera, and how many rows are of it."""

    value: int | str
    rows: int


class TimeSpan(BaseModel):
    """The first and the last time."""

    min: int | float | str
    max: int | float | str


class ThresholdBody(BaseModel):
    """From which score on two images count as the same identity, and how often that errs."""

    value: float
    far: float | None = Field(description="Share of pairs of two identities that reach it, 0..1.")


class AuthBody(BaseModel):
    """What a token is needed for."""

    read: bool
    write: bool


class LimitsBody(BaseModel):
    """What is accepted."""

    upload_bytes: int
    upload_pixels: int
    k: int
    window: int = Field(description="Largest offset + k.")
    rerank: int
    expand: int
    page: int
    wait_seconds: float
    formats: list[str]


class GalleryInfo(BaseModel):
    """What is served here."""

    name: str
    rows: int
    dim: int
    metric: str
    index: str
    exact: bool
    model: str | None
    images: bool = Field(description="Whether images can be searched for and added.")
    threshold: ThresholdBody | None
    writable: bool
    auth: AuthBody
    cameras: list[CameraRows]
    fields: list[str]
    time: TimeSpan | None
    limits: LimitsBody


class Health(BaseModel):
    """Whether all is well."""

    status: str = Field(examples=["ok", "degraded"])
    message: str | None = None


class ErrorText(BaseModel):
    """A word for programs and a sentence for people."""

    code: str
    message: str
    id: int = Field(0, description="The row that it is about; there for duplicates only.")


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorText
