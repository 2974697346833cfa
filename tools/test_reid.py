#!/usr/bin/env python
"""Evaluate re-identification models on one or several data sets, with the same weights.

    python tools/test_reid.py CONFIG CHECKPOINT                       # the config's own domains
    python tools/test_reid.py CONFIG seed0/epoch_60.pth seed1/epoch_60.pth --html
    python tools/test_reid.py CONFIG CHECKPOINT \\
        --target data/market1501 campus=data/photos --camera-pattern '^(\\d+)_'
    python tools/test_reid.py CONFIG CHECKPOINT --rerank --expand aqe --camera-pairs --verify
    python tools/test_reid.py --results a/results.json b/results.json --html   # no model: tables

Prints mAP, rank-k and mINP by domain, and where the training's domain is known, what is lost from
it to the others; runs of one recipe with different seeds are also averaged. Writes results.json
(every number with its protocol) and manifest_test.json; --html a report with pictures.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from engine.cli import add_config_arguments, run_tool, tool_parser

if TYPE_CHECKING:
    from pathlib import Path

    from mmengine import Config

    from engine.provenance import Provenance
    from engine.runner import Runner
    from reid.evaluation.page import Pictures
    from reid.evaluation.refinements import Refinement
    from reid.evaluation.results import DomainResult, ModelResult

UNTRAINED = "untrained"


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    add_config_arguments(parser, optional=True)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="weights to test")
    parser.add_argument(
        "--target",
        nargs="+",
        default=[],
        metavar="[NAME=][LAYOUT:]PATH",
        help="test on these instead of the config's data",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument(
        "--identity-pattern", help="flat folders: regex on file names, one group = identity"
    )
    parser.add_argument(
        "--domains", nargs="+", default=[], metavar="NAME", help="only these of the config's"
    )
    parser.add_argument(
        "--ap", choices=["step", "trapezoid"], help="rule of the average precision, if another"
    )
    parser.add_argument(
        "--untrained", action="store_true", help="add the rows of the untrained network"
    )
    parser.add_argument(
        "--rerank",
        nargs="*",
        metavar="VARIANT",
        help="also with k-reciprocal re-ranking (default variant: zhong)",
    )
    parser.add_argument("--k1", type=int, default=20, help="of --rerank (default 20)")
    parser.add_argument("--k2", type=int, default=6, help="of --rerank (default 6)")
    parser.add_argument(
        "--lambda", type=float, default=0.3, dest="lambda_value", help="of --rerank (default 0.3)"
    )
    parser.add_argument(
        "--camera-aware",
        action="store_true",
        help="of --rerank: what a camera's images share is taken out before",
    )
    parser.add_argument(
        "--expand",
        nargs="*",
        metavar="KIND",
        help="also with features averaged with their neighbours: aqe (default), alpha-qe, dba",
    )
    parser.add_argument("--expand-k", type=int, help="of --expand (default 5, of dba 10)")
    parser.add_argument(
        "--expand-alpha", type=float, default=3.0, help="of alpha-qe and dba (default 3)"
    )
    parser.add_argument(
        "--camera-pairs", action="store_true", help="a table from each camera to each other"
    )
    parser.add_argument(
        "--verify", action="store_true", help="true accept rates, equal error rate, thresholds"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=0,
        metavar="N",
        help="the N worst queries and N random ones with their hits, and where the network looks",
    )
    parser.add_argument(
        "--map",
        nargs="?",
        const="tsne",
        choices=["tsne", "pca"],
        help="pictures of the embeddings in two dimensions (default method: tsne)",
    )
    parser.add_argument(
        "--html",
        action="store_true",
        help="write report.html, with all of these (pictures: 10; no re-ranking or expansion)",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        metavar="FILE",
        help="results.json of earlier tests, as further rows and for means over seeds",
    )
    args = parser.parse_args()
    if args.config is not None and not (args.checkpoints or args.untrained):
        parser.error("give a CHECKPOINT after the config, or only --results FILE ...")
    if args.config is None and not args.results:
        parser.error("give CONFIG and CHECKPOINT, or --results FILE ...")
    if args.pictures < 0:
        parser.error(f"--pictures: expected 0 or more, got {args.pictures}")
    if args.html:
        args.camera_pairs = args.verify = True
        args.pictures = args.pictures or 10
        args.map = args.map or "tsne"
    return args


def main() -> None:
    args = parse_arguments()

    from pathlib import Path

    from mmengine.dist import is_main_process

    from reid.evaluation.page import Pictures
    from reid.evaluation.results import read_results

    earlier = [result for path in args.results for result in read_results(path)]
    tested: list[ModelResult] = []
    pictures = Pictures()
    facts: dict[str, Any] = {}
    work_dir = Path(args.work_dir or "work_dirs/test_reid")
    if args.config is not None:
        for path in args.checkpoints:  # before minutes are spent on the first
            if not Path(path).is_file():
                raise FileNotFoundError(f"no checkpoint at {path}")
        if args.work_dir is None and args.checkpoints:
            first = Path(args.checkpoints[0])
            work_dir = first.parent / f"test_{first.stem}"
        runner, tested, pictures = test(args, work_dir)
        facts = {"test_seed": runner.seed}
    if is_main_process():
        report(args, work_dir, tested + earlier, pictures, facts)


def choose_refinements(args: argparse.Namespace) -> list[Refinement]:
    """What --rerank and --expand ask for."""
    from reid.evaluation.refinements import Expansion, Reranking

    chosen: list[Refinement] = []
    if args.rerank is not None:
        chosen += [
            Reranking(variant, args.k1, args.k2, args.lambda_value, args.camera_aware)
            for variant in args.rerank or ["zhong"]
        ]
    if args.expand is not None:
        for kind in args.expand or ["aqe"]:
            k = args.expand_k or (10 if kind == "dba" else 5)
            chosen.append(Expansion(kind, k, args.expand_alpha))
    return chosen


def prepare(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """The config of a test, and which targets are its training data, tested on whole."""
    from engine.cli import choose_domains, load_config
    from reid.data_options import parse_targets, trained_on, use_targets

    config = load_config(args.config, args.cfg_options)
    overlap: list[str] = []
    if args.domains:
        choose_domains(config, args.domains)
    if args.target:
        targets = parse_targets(
            args.target, args.camera_pattern, identity_pattern=args.identity_pattern
        )
        overlap = sorted(trained_on(config, targets))
        use_targets(config, targets)
    config.test_evaluator.tolerant = True  # the other domains are reported all the same
    if args.ap is not None:
        config.test_evaluator.ap = args.ap
    config.model.update(num_identities=None, weights=None)  # nothing that only training needs
    return config, overlap


def test(args: argparse.Namespace, work_dir: Path) -> tuple[Runner, list[ModelResult], Pictures]:
    """Test every checkpoint in turn with one runner."""
    from pathlib import Path

    from engine.checkpoints import row_names
    from engine.cli import build_runner, without_training
    from engine.provenance import fingerprint, provenance
    from engine.recipe import recipe_digest
    from reid.evaluation.page import Pictures
    from reid.evaluation.results import ModelResult

    refinements = choose_refinements(args)
    config, overlap = prepare(args)
    named = config.get("source_domain") or []
    warnings = [
        f"{name} is what this config trained on: its training identities are tested, too. Leave "
        "out --target to test on the held-out ones"
        for name in overlap
    ]
    without_training(config)
    runner = build_runner(config, work_dir=str(work_dir), seed=args.seed)
    tested: list[ModelResult] = []
    pictures = Pictures()
    if args.untrained:
        domains = test_domains(runner, config, args, refinements, UNTRAINED, pictures)
        if domains:
            tested.append(ModelResult(UNTRAINED, domains, config=str(args.config)))
    for path, name in zip(args.checkpoints, row_names(args.checkpoints), strict=True):
        checkpoint = runner.load_checkpoint(path)
        found = provenance(path, checkpoint)
        domains = test_domains(runner, config, args, refinements, name, pictures)
        if not domains:
            continue  # not the main process, which alone has the details
        trained = (checkpoint.get("meta") or {}).get("dataset_meta") or {}
        sources = [named] if isinstance(named, str) else list(named)
        sources = sources or trained_domains(trained, domains, overlap)
        tested.append(
            ModelResult(
                name=name,
                domains=domains,
                checkpoint=str(path),
                config=str(args.config),
                weights=fingerprint(Path(path)),
                seed=found.seed,
                epoch=found.epoch,
                recipe=recipe_digest(found.config),
                trained_on=str(trained.get("fingerprint") or ""),
                sources=sources,
                warnings=[*warnings, *selection_warnings(found, name, sources)],
            )
        )
    return runner, tested, pictures


def trained_domains(
    trained: dict[str, Any], domains: dict[str, DomainResult], overlap: list[str]
) -> list[str]:
    """Which domains are of the data that a checkpoint says it was trained on.

    Args:
        trained: the training data's description; of several sets joined, with one for each.
        overlap: domains that hold the training data itself.
    """
    known = {meta.get("fingerprint") for meta in (trained, *(trained.get("sets") or {}).values())}
    return [
        name
        for name, result in domains.items()
        if name in overlap or result.data.get("fingerprint", "") in known
    ]


def selection_warnings(found: Provenance, name: str, sources: list[str]) -> list[str]:
    """What must be said of a checkpoint that was chosen by its numbers on what it is tested on."""
    if found.chosen_by is None:
        return []
    where = "a target domain" if sources and found.chosen_on not in sources else "test data"
    return [
        f"{name} was chosen as the best by {found.chosen_by}, on {where}: its number there is that "
        "of the choice, not of unseen data. Test the last checkpoint, or choose on a held-out split"
    ]


def test_domains(
    runner: Runner,
    config: Config,
    args: argparse.Namespace,
    refinements: list[Refinement],
    name: str,
    pictures: Pictures,
) -> dict[str, DomainResult]:
    """The weights as they are on all data; adds what is drawn of the features to ``pictures``."""
    from engine.loops import by_domain
    from imaging.transforms import describe_transforms
    from reid.evaluation.analysis import analyse

    metrics = by_domain(runner.test())
    details = {domain: kept[0] for domain, kept in runner.test_loop.details.items() if kept[0]}
    domains: dict[str, DomainResult] = {}
    for domain, kept in details.items():
        dataset = runner.test_loop.domains[domain].dataset
        transforms = config.test_dataloader[domain].dataset.get("transforms")
        domains[domain] = analyse(
            metrics[domain],
            kept,
            inference=f"{describe_transforms(transforms)}, {runner.precision.eval_dtype}",
            refinements=refinements,
            camera_pairs=args.camera_pairs,
            verification=args.verify,
            examples=args.pictures,
            camera_names=dataset.splits.cameras,
        )
        if domains[domain].problem is None:
            draw_domain(runner, args, name, domain, domains[domain], kept, pictures)
    sound = {d: kept["features"] for d, kept in details.items() if domains[d].problem is None}
    if args.map and len(sound) > 1:
        from reid.evaluation.embedding_map import domain_picture

        title = f"{name}: embeddings by domain"
        pictures.domains[name] = domain_picture(sound, title, method=args.map)
    return domains


def draw_domain(
    runner: Runner,
    args: argparse.Namespace,
    name: str,
    domain: str,
    result: DomainResult,
    kept: dict[str, Any],
    pictures: Pictures,
) -> None:
    """Pictures of one model on one domain, into ``pictures``."""
    from mmengine.model import is_model_wrapper

    title, key = f"{name} on {domain}", (name, domain)
    dataset = runner.test_loop.domains[domain].dataset
    if args.pictures:
        from reid.activation_maps import activation_picture
        from reid.evaluation.pictures import example_sheet

        for why, sheets in (("worst", pictures.worst), ("random", pictures.random)):
            shown = [example for example in result.examples if example["why"] == why]
            if shown:
                heading = f"{title}: {why} queries (percent: their average precision)"
                sheets[key] = example_sheet(shown, heading)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        images = [dataset[example["index"]]["inputs"] for example in result.examples]
        if images:
            pictures.activations[key] = activation_picture(model, images)
    if args.map:
        from reid.evaluation.embedding_map import identity_picture, some_identities

        chosen = some_identities(kept["pids"], kept["camids"])
        if len(chosen) > 1:
            names = dataset.splits.cameras
            cameras = [
                None if camera == -1 else names.get(camera, str(camera))
                for camera in kept["camids"][chosen].tolist()
            ]
            features, pids = kept["features"][chosen], kept["pids"][chosen]
            heading = f"{title}: embeddings of a few identities"
            pictures.identities[key] = identity_picture(
                features, pids, cameras, heading, method=args.map
            )


def report(
    args: argparse.Namespace,
    work_dir: Path,
    results: list[ModelResult],
    pictures: Pictures,
    facts: dict[str, Any],
) -> None:
    """Print tables and write files.

    Raises:
        ValueError: a domain could not be evaluated; what could is printed and written before.
    """
    import shlex
    import sys

    from rich.console import Console

    from engine.wording import distinct
    from reid.evaluation.page import write_page
    from reid.evaluation.report import (
        domains_of,
        pair_table,
        pairs_of,
        result_table,
        transfer_table,
        verification_table,
    )
    from reid.evaluation.results import write_results
    from reid.evaluation.seeds import aggregate, by_recipe

    for result, name in zip(results, distinct([r.name for r in results]), strict=True):
        result.name = name
    averages = [aggregate(group) for group in by_recipe(results)]
    rows = [*results, *averages]
    title = str(args.config or "results")
    if "test_seed" in facts:
        title += f", seed {facts['test_seed']}"
    console = Console(highlight=False)
    console.print(result_table(rows, title), soft_wrap=True)
    for table in (transfer_table(rows), verification_table(rows)):
        if table is not None:
            console.print(table, soft_wrap=True)
    if args.camera_pairs:
        for row in rows:
            for domain in domains_of(row):
                if pairs_of(row, domain):
                    console.print(pair_table(row, domain), soft_wrap=True)

    written = [
        write_results(
            work_dir / "results.json",
            results,
            averages=[average.plain() for average in averages],
            command=sys.argv,
            **facts,
        )
    ]
    pictures.draw(rows)
    drawn = write_pictures(work_dir / "pictures", pictures)
    if args.html:
        note = f"python {shlex.join(sys.argv)}"
        written.append(write_page(work_dir / "report.html", rows, title, pictures, note))
    if args.config is not None:
        written.append(work_dir / "manifest_test.json")
    shown = [str(path) for path in written]
    if drawn:
        shown.append(f"{work_dir / 'pictures'} ({drawn})")
    print(f"\nwritten: {', '.join(shown)}")
    problems = [d.problem for r in results for d in r.domains.values() if d.problem]
    if problems:
        raise ValueError("; ".join(dict.fromkeys(problems)))


def write_pictures(folder: Path, pictures: Pictures) -> int:
    """Every picture as a file of its own; returns how many."""
    from engine.atomic import write_file
    from engine.wording import as_file_name

    number = 0
    for kind, files in vars(pictures).items():
        for key, data in files.items():
            name = key if isinstance(key, str) else "_".join(key)
            ending = "jpg" if data.startswith(b"\xff\xd8") else "png"
            write_file(folder / f"{kind}_{as_file_name(name)}.{ending}", data)
            number += 1
    return number


if __name__ == "__main__":
    run_tool(main)
