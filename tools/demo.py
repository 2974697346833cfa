#!/usr/bin/env python
"""The toolkit from nothing to pictures, in minutes on two CPU cores.

    python tools/demo.py            # re-identification: from drawn pedestrians to a ranked list
    python tools/demo.py seg        # segmentation: from drawn streets to another kind of street

`reid` draws two cities of pedestrians that differ in light, colours and sharpness, trains
ResNet-18-IBN-a on one, evaluates it in both, fills a gallery, searches it, and writes pictures.

`seg` draws streets in the style of a game and of a real camera, trains DeepLabV3+ on the game with
batch norm and with IBN-b, tests both networks on both styles, and writes pictures and a report.

Everything goes to demo/; what is already there is used again. Each step is one of the tools, and
its command is shown.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = Path("demo")

REID_CONFIG = "configs/reid/resnet18_ibn_a_small_synthetic.py"
REID_RUN = DEMO / "run"
QUERIES = 5

STREETS = DEMO / "streets"
NETWORKS = {"BN": "resnet18_small_streets", "IBN-b": "resnet18_ibn_b_small_streets"}
ITERATIONS = 150
PICTURES = 4


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", choices=("reid", "seg"), default="reid", help="default: reid"
    )
    parser.add_argument("--fresh", action="store_true", help="delete what it made and begin anew")
    args = parser.parse_args()
    started = time.perf_counter()
    demo = {"reid": demonstrate_reid, "seg": demonstrate_seg}[args.what]
    demo(fresh=args.fresh)
    say(f"\nDone in {time.perf_counter() - started:.0f} s.")
    return 0


# ------------------------------------------------------------------------------ re-identification


def demonstrate_reid(*, fresh: bool) -> None:
    if fresh:
        for name in ("noon", "dusk", "run", "gallery"):
            shutil.rmtree(ROOT / DEMO / name, ignore_errors=True)
        for picture in (ROOT / DEMO).glob("*.png"):
            picture.unlink()
    for city in ("noon", "dusk"):
        sheet = DEMO / f"{city}.png"
        step(
            f"draw the city '{city}'",
            f"tools/prepare_data.py synthetic {DEMO / city} --city {city} --sheet {sheet}",
            makes=sheet,
        )
    checkpoint = REID_RUN / f"epoch_{epochs()}.pth"
    step(
        "train on noon (a few minutes; Ctrl-C stops safely, the same command goes on)",
        f"tools/train_reid.py {REID_CONFIG} --work-dir {REID_RUN} --resume",
        makes=checkpoint,
    )
    results = REID_RUN / f"test_{checkpoint.stem}" / "results.json"
    step(
        "evaluate in both cities, beside the untrained network",
        f"tools/test_reid.py {REID_CONFIG} {checkpoint} --untrained",
        makes=results,
    )
    gallery = DEMO / "gallery"
    if not (ROOT / gallery / "extractor.json").exists():  # written last: half a gallery is no use
        shutil.rmtree(ROOT / gallery, ignore_errors=True)
    step(
        "embed noon's gallery images and store them",
        f"tools/build_gallery.py {gallery} {REID_CONFIG} {checkpoint} --data {DEMO / 'noon'}",
        makes=gallery / "extractor.json",
    )
    picture = DEMO / "ranked_list.png"
    search = f"tools/query_gallery.py {gallery} {{}} --exclude-own-camera"
    step(
        "search the gallery",
        search.format(" ".join(map(str, some_queries()))) + f" --picture {picture}",
        makes=picture,
    )

    show_reid(results)
    one = next(iter(some_queries()))
    say(f"""
Everything lies in {DEMO}/:
  {DEMO}/noon.png, {DEMO}/dusk.png
      the two cities: rows are people, columns are cameras
  {picture}
      queries and their ten best matches; green: same person, red: another
  {results}
      the numbers above, with their protocol
  {checkpoint}
      the trained model; {REID_RUN}/manifest_train.json says how it was made
  {gallery}
      the gallery

Try next:
  {python()} {search.format(one)} --picture one.png
  {python()} tools/serve_gallery.py {gallery}    # as a web page: pip install '.[serve]'
  {python()} tools/prepare_data.py reid YOUR/PHOTOS      # what is in your own data, is it usable?
  {python()} tools/train_reid.py {REID_CONFIG} --data YOUR/PHOTOS""")


def epochs() -> int:
    from engine.cli import load_config

    return int(load_config(ROOT / REID_CONFIG).train_cfg.max_epochs)


def some_queries() -> list[Path]:
    """Query images of different people."""
    files = sorted((ROOT / DEMO / "noon/query").glob("*.jpg"))
    by_person = {path.name.split("_")[0]: path.relative_to(ROOT) for path in files}
    return list(by_person.values())[:QUERIES]


def show_reid(results: Path) -> None:
    from rich.console import Console

    from reid.evaluation.report import result_table
    from reid.evaluation.results import read_results

    say("")
    title = "trained on noon; tested on noon and dusk"
    Console().print(result_table(read_results(ROOT / results), title), soft_wrap=True)


# ----------------------------------------------------------------------------------- segmentation


def demonstrate_seg(*, fresh: bool) -> None:
    if fresh:
        for name in ("streets", "seg"):
            shutil.rmtree(ROOT / DEMO / name, ignore_errors=True)
    for style, splits, images in (("game", "train val", "200 40"), ("real", "val", "40")):
        sheet = STREETS / f"{style}.png"
        step(
            f"draw streets, style '{style}'",
            f"tools/prepare_data.py streets {STREETS / style} --style {style} --split {splits} "
            f"--images {images} --sheet {sheet}",
            makes=sheet,
        )
    results = []
    for name, config in NETWORKS.items():
        run = DEMO / "seg" / config
        checkpoint = run / f"iter_{ITERATIONS}.pth"
        step(
            f"train with {name} on the game (minutes; Ctrl-C stops safely, the same command goes "
            "on)",
            f"tools/train_seg.py configs/seg/{config}.py --iterations {ITERATIONS} --work-dir {run}"
            " --no-test --resume",
            makes=checkpoint,
        )
        results.append(run / f"test_{checkpoint.stem}" / "results.json")
        step(
            f"test {name} on the game's own streets and on the real ones",
            f"tools/test_seg.py {run / config}.py {checkpoint} --pictures {PICTURES}",
            makes=results[-1],
        )
    report = DEMO / "seg" / "report" / "report.html"
    step(
        "both side by side",
        f"tools/test_seg.py --results {' '.join(map(str, results))} --html "
        f"--work-dir {report.parent}",
        makes=None,
    )
    config = NETWORKS["IBN-b"]
    run = DEMO / "seg" / config
    model = f"{run / config}.py {run}/iter_{ITERATIONS}.pth"
    say(f"""
Everything lies in {DEMO}/:
  {STREETS}/game.png, {STREETS}/real.png
      the two styles of street, beside their labels
  {results[0].parent}/, {results[1].parent}/
      numbers, confusion matrices and pictures: image, truth, prediction, errors
  {report}
      the comparison, to open in a browser

Try next:
  {python()} tools/segment.py {model} YOUR/IMAGES --out segmented
  {python()} tools/prepare_data.py seg data/gta5          # is the real GTA5 there, and whole?
  {python()} tools/train_seg.py configs/seg/resnet50_ibn_b_robustnet_gta5-to-cityscapes.py""")


# ------------------------------------------------------------------------------------------ steps


def step(what: str, command: str, *, makes: Path | None) -> None:
    """Run a tool unless what it makes is there; None: run it always."""
    say(f"\n== {what}")
    if makes is not None and (ROOT / makes).exists():
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


def python() -> str:
    """The interpreter, as one would type it."""
    here = Path(sys.executable)
    return str(here.relative_to(ROOT)) if here.is_relative_to(ROOT) else "python"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
