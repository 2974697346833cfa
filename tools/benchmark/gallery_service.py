#!/usr/bin/env python
"""Load on the HTTP service: many clients ask and one changes rows, and every answer is checked.

    python tools/benchmark/gallery_service.py --seconds 60                    # drawn pictures
    python tools/benchmark/gallery_service.py GALLERY --seconds 60            # images of a gallery

A real uvicorn process serves a copy of the gallery on loopback. Three parts, each on the same rows,
the first two in turns:

- ``in process``: the gallery's search and the embedding called here, by one thread, without HTTP:
  what any service has to do at least.
- ``service, 1 client``: the same questions over HTTP, one after the other.
- ``service, N clients``: all at once, while a writer adds, finds and removes images.

Questions are by image, by row and by vector, in turn. Wrong answers end the run: an image or vector
of the gallery must find its own row with score 1; a row must not find itself; a row must not be
found by a question that began after its removal was acknowledged; every row found must have been
in the gallery or added by the writer. ``of in process`` is the median time (for ``service, N
clients`` the rate) over that of the first part.

Without GALLERY the embedding is one matrix product over drawn pictures: the service alone is timed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import secrets
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np

    from reid.gallery import Gallery

KINDS = ("image", "row", "vector")
MODEL = "drawn pictures"
DIM = 128
TOKEN = secrets.token_urlsafe(32)
_TURNS = 10
CLOSE = 2e-3  # a score of 1, over another batch and another thread


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", nargs="?", help="of build_gallery.py")
    parser.add_argument("--rows", type=int, default=2000, help="drawn, without GALLERY")
    parser.add_argument("--seconds", type=float, default=10, help="of the part with all clients")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--images", type=int, default=64, help="different ones that are asked for")
    parser.add_argument("-k", "--k", type=int, default=20, help="hits a question")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", help="write the table there as well")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery"
        if args.gallery:
            shutil.copytree(args.gallery, path)
        else:
            draw_gallery(path, args.rows)
        measure(args, path)


# ------------------------------------------------------------------------- what is embedded how


class Drawn:
    """Images -> unit vectors, by one matrix product."""

    def __init__(self) -> None:
        import numpy as np

        self.matrix = np.random.default_rng(0).normal(size=(16 * 8 * 3, DIM)).astype(np.float32)

    def __call__(self, images: Any) -> np.ndarray:
        import cv2
        import numpy as np

        small = [cv2.resize(image, (8, 16), interpolation=cv2.INTER_AREA) for image in images]
        flat = np.stack(small).reshape(len(small), -1).astype(np.float32) / 255 - 0.5
        features = flat @ self.matrix
        return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def draw_picture(seed: int) -> np.ndarray:
    """(128, 64, 3) uint8."""
    import cv2
    import numpy as np

    blocks = np.random.default_rng(seed).integers(0, 256, (16, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(blocks, (64, 128), interpolation=cv2.INTER_NEAREST))


def encode(pixels: np.ndarray) -> bytes:
    import cv2

    data: bytes = cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()
    return data


def draw_gallery(path: Path, rows: int) -> None:
    from reid.gallery import Gallery

    with Gallery.create(path, DIM, model=MODEL) as gallery:
        records = [{"image": f"{row}.png", "camera": row % 6} for row in range(rows)]
        gallery.add(Drawn()([draw_picture(row) for row in range(rows)]), records)


def make_embedding(gallery: Gallery, device: str) -> Callable[[Any], np.ndarray]:
    """The gallery's own model, or the matrix product."""
    if gallery.model == MODEL:
        return Drawn()
    from reid.gallery_model import find_gallery_model, gallery_extractor

    return gallery_extractor(gallery, find_gallery_model(gallery), device)


def run_service(path: str, device: str, token: str, port: Any) -> None:
    """The process that serves; it tells its port through a pipe."""
    import logging

    from reid.gallery import Gallery
    from reid.service import Settings, create_app, serve
    from reid.service.serving import bind

    logging.disable(logging.INFO)
    gallery = Gallery.open(path)
    settings = Settings(token=token, rate=0)
    listening = bind("127.0.0.1", 0)
    app = create_app(gallery, make_embedding(gallery, device), settings)
    serve(app, listening, settings, ready=lambda: port.send(listening.getsockname()[1]))


# --------------------------------------------------------------------------------- the questions


@dataclass
class Question:
    """Of a row: its image file, pixels and vector."""

    row: int
    data: bytes
    pixels: np.ndarray
    vector: np.ndarray


@dataclass
class Known:
    """What the writer and the clients know of each other."""

    rows: frozenset[int]
    added: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def check(self, kind: str, row: int, hits: list[tuple[int, float]], gone: set[int]) -> None:
        """``gone`` were removed before the question was asked."""
        ids = {found for found, _ in hits}
        self.seen |= ids
        if back := ids & gone:
            self.problems.append(f"{kind} {row}: found rows {back}, which were removed before")
        if kind == "row":
            if row in ids or not hits:
                self.problems.append(f"row {row}: found itself, or nothing")
        elif not any(found == row and score > 1 - CLOSE for found, score in hits[:3]):
            self.problems.append(f"{kind} of row {row}: found {hits[:3]}")


def choose_questions(gallery: Gallery, embed: Any, count: int) -> list[Question]:
    """Rows whose images are at hand and embed to what is stored."""
    import numpy as np

    from imaging.files import decode_image

    rng = np.random.default_rng(0)
    ids = list(gallery.records)
    chosen = []
    for row in rng.permutation(ids).tolist()[:count]:
        if gallery.model == MODEL:
            data = encode(draw_picture(row))
        else:
            data = Path(gallery.records[row]["image"]).read_bytes()
        pixels = decode_image(data)
        vector = gallery.vectors([row])[0]
        score = float(embed([pixels])[0] @ vector)
        if score < 1 - CLOSE:
            raise ValueError(f"the image of row {row} embeds with score {score:.4f} to its vector")
        chosen.append(Question(row, data, pixels, vector))
    return chosen


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, kind: str, question: Question, k: int) -> list[tuple[int, float]]:
        if kind == "image":
            found = self.send_image("/api/search/image", question.data, options={"k": k})
        elif kind == "row":
            found = self.send("POST", "/api/search/id", {"id": question.row, "k": k})
        else:
            body = {"vector": question.vector.tolist(), "k": k}
            found = self.send("POST", "/api/search/vector", body)
        return [(hit["id"], hit["score"]) for hit in found["hits"]]

    def send_image(self, path: str, data: bytes, **fields: Any) -> Any:
        boundary = secrets.token_hex(8)
        parts = [(f'name="{name}"', json.dumps(value).encode()) for name, value in fields.items()]
        parts.append(('name="image"; filename="image"', data))
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for head, content in parts
        )
        body += f"--{boundary}--\r\n".encode()
        return self.send("POST", path, body, f"multipart/form-data; boundary={boundary}")

    def send(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Content-Type": content_type, "Authorization": f"Bearer {TOKEN}"}
        self.connection.request(method, path, content, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:200]!r}")
        return json.loads(text)


Times = dict[str, list[float]]


def ask_on(
    seconds: float,
    questions: list[Question],
    ask: Callable[[str, Question], list[tuple[int, float]]],
    known: Known,
    start: int = 0,
) -> Times:
    """Ask until the time is over; every answer is checked."""
    times: Times = {kind: [] for kind in KINDS}
    until = time.monotonic() + seconds
    turn = start
    while time.monotonic() < until and not known.problems:
        kind, question = KINDS[turn % len(KINDS)], questions[turn % len(questions)]
        gone = set(known.removed)
        began = time.perf_counter()
        try:
            hits = ask(kind, question)
        except Exception as error:
            known.problems.append(f"{kind} {question.row}: {error}")
            break
        times[kind].append(time.perf_counter() - began)
        known.check(kind, question.row, hits, gone)
        turn += 1
    return times


def write_on(ended: threading.Event, port: int, known: Known, times: Times, first: int) -> None:
    """Add an image, find it, remove it, look that it is gone; until told to stop."""
    client, seed = Client(port), first
    try:
        while not ended.is_set():
            data = encode(draw_picture(seed))
            seed += 1
            began = time.perf_counter()
            new = client.send_image("/api/rows", data, record={"camera": 99})["id"]
            times["add"].append(time.perf_counter() - began)
            known.added.add(new)
            hits = client.send_image("/api/search/image", data, options={"k": 1})["hits"]
            if hits[0]["id"] != new or hits[0]["score"] < 1 - CLOSE:
                known.problems.append(f"row {new} was added and not found: {hits[0]}")
            began = time.perf_counter()
            client.send("DELETE", f"/api/rows/{new}")
            known.removed.add(new)
            times["remove"].append(time.perf_counter() - began)
            hits = client.send_image("/api/search/image", data, options={"k": 1})["hits"]
            if hits[0]["id"] == new:
                known.problems.append(f"row {new} was removed and still found")
    except Exception as error:
        known.problems.append(f"the writer: {error}")


# ----------------------------------------------------------------------------------- the parts


def measure(args: argparse.Namespace, path: Path) -> None:
    from reid.gallery import Gallery

    gallery = Gallery.open(path)
    embed = make_embedding(gallery, args.device)
    questions = choose_questions(gallery, embed, args.images)
    known = Known(frozenset(gallery.records))
    print(f"{len(gallery):,} rows of dimension {gallery.dim}, {len(questions)} images, k={args.k}")
    rows = []
    short = args.seconds / 4
    gallery.search(questions[0].vector[None], args.k)  # what is imported for the first one is there
    pipe, theirs = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=run_service, args=(str(path), args.device, TOKEN, theirs)
    )
    process.start()
    theirs.close()
    try:
        if not pipe.poll(120):
            raise RuntimeError("the service did not start in 120 seconds")
        port = int(pipe.recv())
        client = Client(port)
        bare, one = in_turns(
            short,
            questions,
            known,
            in_process(gallery, embed, args.k),
            lambda kind, question: client.ask(kind, question, args.k),
        )
        rows += table_rows("in process", bare, short, None)
        rows += table_rows("service, 1 client", one, short, bare)
        many, changes = load(args, questions, port, known)
        name = f"service, {args.clients} clients"
        rows += table_rows(name, many, args.seconds, bare, by_rate=True)
        rows += table_rows(name, changes, args.seconds, None)
    finally:
        process.terminate()
        process.join(60)
    if strangers := known.seen - known.rows - known.added:
        known.problems.append(f"rows {strangers} were found and never added")
    show(rows, args.csv)
    if known.problems:
        raise RuntimeError(f"{len(known.problems)} wrong answers, first: {known.problems[0]}")
    if process.exitcode != 0:
        raise RuntimeError(f"the service ended with code {process.exitcode}")
    asked = sum(len(values) for times in (bare, one, many) for values in times.values())
    print(f"{asked:,} answers, all of them right; {len(known.removed):,} rows added and removed")


def in_turns(
    seconds: float,
    questions: list[Question],
    known: Known,
    *ways: Callable[[str, Question], list[tuple[int, float]]],
) -> list[Times]:
    """``seconds`` of each way, in short turns: what else the machine does slows all of them."""
    times: list[Times] = [{kind: [] for kind in KINDS} for _ in ways]
    for turn in range(_TURNS):
        for way, own in zip(ways, times, strict=True):
            part = ask_on(seconds / _TURNS, questions, way, known, turn)
            for kind, values in part.items():
                own[kind] += values
    return times


def in_process(
    gallery: Gallery, embed: Any, k: int
) -> Callable[[str, Question], list[tuple[int, float]]]:
    import numpy as np

    from imaging.files import decode_image

    def ask(kind: str, question: Question) -> list[tuple[int, float]]:
        excluded = None
        if kind == "image":
            features = embed([decode_image(question.data)])
        elif kind == "row":
            features, excluded = gallery.vectors([question.row]), [[question.row]]
        else:
            features = np.asarray(question.vector)[None]
        found = gallery.search(features, k, exclude_ids=excluded)
        return [(hit.id, hit.score) for hit in found[0]]

    return ask


def load(
    args: argparse.Namespace, questions: list[Question], port: int, known: Known
) -> tuple[Times, Times]:
    """All clients and the writer at once."""
    found: list[Times] = []
    changes: Times = {"add": [], "remove": []}

    def client(number: int) -> None:
        own = Client(port)
        found.append(
            ask_on(args.seconds, questions, lambda kind, q: own.ask(kind, q, args.k), known, number)
        )

    ended = threading.Event()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(args.clients)]
    writer = threading.Thread(target=write_on, args=(ended, port, known, changes, 10**6))
    for thread in (*threads, writer):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    writer.join()
    return {kind: [t for times in found for t in times[kind]] for kind in KINDS}, changes


def table_rows(
    name: str, times: Times, seconds: float, bare: Times | None, by_rate: bool = False
) -> list[dict[str, str]]:
    """A row a kind of request."""
    rows = []
    for kind, values in times.items():
        if not values:
            continue
        ordered = sorted(values)
        median, tail = statistics.median(ordered), ordered[int(0.99 * (len(ordered) - 1))]
        against = ""
        if bare is not None and bare[kind]:
            mine, theirs = len(values) / seconds, len(bare[kind]) / (seconds / 4)
            ratio = mine / theirs if by_rate else median / statistics.median(bare[kind])
            against = f"{ratio:.2f}"
        rows.append(
            {
                "what": name,
                "request": kind,
                "requests": str(len(values)),
                "p50 ms": f"{1000 * median:.2f}",
                "p99 ms": f"{1000 * tail:.2f}",
                "requests/s": f"{len(values) / seconds:.1f}",
                "of in process": against,
            }
        )
    return rows


def show(rows: list[dict[str, str]], file: str | None) -> None:
    import csv

    from rich.console import Console
    from rich.table import Table

    table = Table(title="of in process: median time; with several clients requests/s")
    for name in rows[0]:
        table.add_column(name, justify="left" if name in ("what", "request") else "right")
    for row in rows:
        table.add_row(*row.values())
    Console(width=120).print(table)
    if file:
        with Path(file).open("w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    run_tool(main)
