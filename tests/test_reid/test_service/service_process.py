"""A service as a process of its own: the projection as embedding, as slow as is asked for.

python service_process.py GALLERY SECONDS_AN_EMBEDDING SHUTDOWN_SECONDS prints its port, and the
pids of its decoders.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]

    from service_world import TOKEN, embed

    from reid.gallery import Gallery
    from reid.service import Settings, create_app, serve
    from reid.service.serving import bind

    folder, seconds, shutdown = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])

    def slow(images):
        time.sleep(seconds)
        return embed(images)

    settings = Settings(token=TOKEN, rate=0, shutdown_seconds=shutdown)
    listening = bind("127.0.0.1", 0)
    app = create_app(Gallery.open(folder), slow, settings)

    def ready():
        pids = app.state.parts.uploads.decoders.pids
        print(listening.getsockname()[1], *pids, flush=True)

    serve(app, listening, settings, ready=ready)
