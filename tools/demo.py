#!/usr/bin/env python
"""Re-identification from nothing to a ranked list, in minutes on two CPU cores.

    python tools/demo.py

Draws two cities of pedestrians that differ in light, colours and sharpness, trains ResNet-18-IBN-a
on one, evaluates it in both, fills a gallery, searches it, and writes pictures. Everything goes to
demo/; what is already there is used again. Each step is one of the tools, and its command is shown.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/reid/resnet18_ibn_a_small_synthetic.py"
DEMO = Path("demo")
RUN = DEMO / "run"
QUERIES = 5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="delete demo/ and begin anew")
    args = parser.parse_args()
    if args.fresh:
        shutil.rmtree(ROOT / DEMO, ignore_errors=True)
    started = time.perf_counter()

    for city in ("noon", "dusk"):
        sheet = DEMO / f"{city}.png"
        step(
            f"draw the city '{city}'",
            f"tools/prepare_data.py synthetic {DEMO / city} --city {city} --sheet {sheet}",
            makes=sheet,
        )
    checkpoint = RUN / f"epoch_{epochs()}.pth"
    step(
        "train on noon (a few minutes; Ctrl-C stops safely, the same command goes on)",
        f"tools/train_reid.py {CONFIG} --work-dir {RUN} --resume",
        makes=checkpoint,
    )
    results = RUN / f"test_{checkpoint.stem}" / "results.json"
    step(
        "evaluate in both cities, beside the untrained network",
        f"tools/test_reid.py {CONFIG} {checkpoint} --untrained",
        makes=results,
    )
    gallery = DEMO / "gallery"
    if not (ROOT / gallery / "extractor.json").exists():  # written last: half a gallery is no use
        shutil.rmtree(ROOT / gallery, ignore_errors=True)
    step(
        "embed noon's gallery images and store them",
        f"tools/build_gallery.py {gallery} {CONFIG} {checkpoint} --data {DEMO / 'noon'}",
        makes=gallery / "extractor.json",
    )
    picture = DEMO / "ranked_list.png"
    search = f"tools/query_gallery.py {gallery} {{}} --exclude-own-camera"
    step(
        "search the gallery",
        search.format(" ".join(map(str, some_queries()))) + f" --picture {picture}",
        makes=picture,
    )

    show(results)
    one = next(iter(some_queries()))
    here = Path(sys.executable)
    python = here.relative_to(ROOT) if here.is_relative_to(ROOT) else "python"
    say(f"""
Done in {time.perf_counter() - started:.0f} s. Everything lies in {DEMO}/:
  {DEMO}/noon.png, {DEMO}/dusk.png
      the two cities: rows are people, columns are cameras
  {picture}
      queries and their ten best matches; green: same person, red: another
  {results}
      the numbers above, with their protocol
  {checkpoint}
      the trained model; {RUN}/manifest_train.json says how it was made
  {gallery}
      the gallery

Try next:
  {python} {search.format(one)} --picture one.png
  {python} tools/prepare_data.py reid YOUR/PHOTOS      # what is in your own data, is it usable?
  {python} tools/train_reid.py {CONFIG} --data YOUR/PHOTOS
""")
    return 0


def step(what: str, command: str, *, makes: Path) -> None:
    """Run a tool unless what it makes is there."""
    say(f"\n== {what}")
    if (ROOT / makes).exists():
        say(f"   {makes} is there: used again")
        return
    say(f"   python {command}")
    process = subprocess.Popen([sys.executable, *shlex.split(command)], cwd=ROOT)
    # Ctrl-C reaches the tool too; wait while it saves what it has
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    code = process.wait()
    signal.signal(signal.SIGINT, previous)
    if code:
        say(f"\nthis step ended with exit code {code}; run the same command again to go on")
        sys.exit(code)


def epochs() -> int:
    from engine.cli import load_config

    return int(load_config(ROOT / CONFIG).train_cfg.max_epochs)


def some_queries() -> list[Path]:
    """Query images of different people."""
    files = sorted((ROOT / DEMO / "noon/query").glob("*.jpg"))
    by_person = {path.name.split("_")[0]: path.relative_to(ROOT) for path in files}
    return list(by_person.values())[:QUERIES]


def show(results: Path) -> None:
    from rich.console import Console

    from reid.evaluation.report import result_table

    content = json.loads((ROOT / results).read_text())
    say("")
    title = "trained on noon; tested on noon and dusk"
    Console().print(result_table(content["metrics"], title), soft_wrap=True)
    for name, protocol in content["protocols"].items():
        say(f"{name}: {protocol}")


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
