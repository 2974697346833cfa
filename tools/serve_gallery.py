#!/usr/bin/env python
"""Serve a gallery: a page to search it by image, and an HTTP API.

    python tools/serve_gallery.py GALLERY
    python tools/serve_gallery.py GALLERY --read-only --port 8080
    python tools/serve_gallery.py GALLERY --host 0.0.0.0 --allowed-host reid.example.org

The model is the one that filled the gallery (tools/build_gallery.py wrote which); without it rows
are found by id and by vector only. On this machine's own address everybody may search, and changes
need a token; at any other address everything needs it. The token is that of --token-file or
REIDSEG_TOKEN; without either, one is made and printed. Ctrl-C or SIGTERM ends the service in order.
docs/serving.md says more: the API, limits, metrics, a proxy for TLS.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    from reid.gallery import Gallery
    from reid.inference import FeatureExtractor
    from reid.threshold import Threshold


EVERY_ADDRESS = ("0.0.0.0", "::", "")


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", help="folder or address of the gallery")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free")
    parser.add_argument("--token-file", metavar="FILE", help="holds the token, and nothing else")
    parser.add_argument("--read-only", action="store_true", help="refuse all changes")
    parser.add_argument(
        "--read-needs-token",
        action="store_true",
        help="ask for the token for everything, on this machine's own address as well",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers call the service, beside localhost; may be repeated",
    )
    parser.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a proxy whose X-Forwarded-For says who the client is; may be repeated",
    )
    parser.add_argument("--max-upload-mb", type=float, default=10, help="largest image file")
    parser.add_argument("--wait-seconds", type=float, default=10, help="before a query is refused")
    parser.add_argument(
        "--rate", type=float, default=20, help="requests a second of a client; 0 for no limit"
    )
    parser.add_argument("--show-paths", action="store_true", help="show image paths whole")
    parser.add_argument(
        "--threshold",
        metavar="NUMBER|FILE",
        help="from which score on a hit is the same identity; by default what is stored for the "
        "model",
    )
    parser.add_argument("--config", help="where the gallery's own config has moved to")
    parser.add_argument("--checkpoint", help="where the gallery's own weights have moved to")
    parser.add_argument(
        "--model-file", help="the file with config and checkpoint, where the gallery is no folder"
    )
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import logging

    from reid.gallery import Gallery
    from reid.service.settings import LOOPBACK_HOSTS, Settings

    try:
        from reid.service.app import create_app
        from reid.service.serving import bind, is_loopback, serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error}; install what serving needs: pip install 'reidseg[serve]'"
        ) from None

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token, made = find_token(args.token_file)
    listening = bind(args.host, args.port)
    local = is_loopback(listening)
    gallery = Gallery.open(args.gallery)
    extractor = find_extractor(args, gallery)
    settings = Settings(
        name=Path(args.gallery).name,
        token=token,
        read_needs_token=args.read_needs_token or not local,
        writable=not args.read_only,
        show_paths=args.show_paths,
        threshold=find_threshold(args.threshold, gallery, extractor),
        allowed_hosts=(
            *LOOPBACK_HOSTS,
            *([] if local else own_names(args.host)),
            *args.allowed_host,
        ),
        upload_bytes=round(args.max_upload_mb * 2**20),
        wait_seconds=args.wait_seconds,
        rate=args.rate,
        burst=max(60.0, 3 * args.rate),
    )
    port = listening.getsockname()[1]
    shown = "127.0.0.1" if args.host in EVERY_ADDRESS else args.host
    page = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    def ready() -> None:
        print(f"{args.gallery}: {len(gallery):,} rows, at {page}", flush=True)
        if extractor is None:
            print("without a model: search by id and by vector only", flush=True)
        if made:
            print(f"token, made for this run: {page}#token={token}", flush=True)
        if args.host in EVERY_ADDRESS and not args.allowed_host:
            print(
                "other machines need --allowed-host NAME, the name they call this one", flush=True
            )

    serve(
        create_app(gallery, extractor, settings),
        listening,
        settings,
        trusted_proxies=args.trusted_proxy,
        ready=ready,
    )


def find_token(file: str | None) -> tuple[str, bool]:
    """The token, and whether it was made just now."""
    import secrets

    if file is not None:
        text = Path(file).read_text(encoding="ascii").strip()
        if not text:
            raise ValueError(f"the token file {file} is empty")
        return text, False
    if text := os.environ.get("REIDSEG_TOKEN", "").strip():
        return text, False
    return secrets.token_urlsafe(32), True


def find_extractor(args: argparse.Namespace, gallery: Gallery) -> FeatureExtractor | None:
    """The model that filled the gallery; None where nobody says which that is."""
    from reid.gallery_model import find_gallery_model, gallery_extractor, gallery_model_file

    file = gallery_model_file(gallery.location)
    given = args.config or args.checkpoint or args.model_file
    if not given and (file is None or not file.is_file()):
        return None
    model = find_gallery_model(
        gallery, config=args.config, weights=args.checkpoint, model_file=args.model_file
    )
    return gallery_extractor(gallery, model, args.device)


def find_threshold(
    given: str | None, gallery: Gallery, extractor: FeatureExtractor | None
) -> Threshold | None:
    """What was given, or else what is stored beside the model's weights, if anything is."""
    from reid.gallery_model import GalleryModel, gallery_threshold
    from reid.threshold import parse_threshold, threshold_path

    if given is not None:
        return gallery_threshold(gallery, parse_threshold(given), None)
    if extractor is None or extractor.weights is None:
        return None
    if not threshold_path(extractor.weights).is_file():
        return None
    return gallery_threshold(gallery, True, GalleryModel(None, str(extractor.weights)))


def own_names(host: str) -> list[str]:
    """The address itself, as a browser writes it; an address that means all of them is no name."""
    if host in EVERY_ADDRESS:
        return []
    return [f"[{host}]" if ":" in host else host]


if __name__ == "__main__":
    run_tool(main)
