"""What a checkpoint says of its training: config, seed, iteration, and how it was chosen.

A checkpoint that was chosen because it was best on a target domain has seen that domain's labels:
its numbers there are not those of an unseen domain. mmengine's CheckpointHook with ``save_best``
writes such files as ``best_<domain>_<metric>_iter_<n>.pth`` (``_epoch_<n>`` of a training by
epochs) and notes them in the message hub that is stored with every checkpoint.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any


@dataclass(frozen=True)
class Provenance:
    """Attributes are None where the checkpoint does not say.

    Attributes:
        config: the training's configuration as plain values.
        seed, iteration, epoch: of the training.
        chosen_by: the validation metric that chose this checkpoint, e.g. 'cityscapes/mIoU'.
        chosen_on: the domain of that metric.
        world_size: processes of the training, from the manifest beside the checkpoint.
    """

    config: dict[str, Any] | None = None
    seed: int | None = None
    iteration: int | None = None
    epoch: int | None = None
    chosen_by: str | None = None
    chosen_on: str | None = None
    world_size: int | None = None


def provenance(path: str | Path, checkpoint: Mapping[str, Any]) -> Provenance:
    """Read what a loaded checkpoint says.

    Args:
        path: of the file; its name and the manifest beside it count.
        checkpoint: its content, loaded without unpickling code.
    """
    meta = checkpoint.get("meta") or {}
    config = None
    if isinstance(meta.get("cfg"), str):
        try:
            config = parse_config(meta["cfg"])
        except ValueError:  # text of another program; then it just does not say
            config = None
    by = _chosen_by(Path(path), checkpoint, meta, config)
    return Provenance(
        config=config,
        seed=_whole(meta.get("seed")),
        iteration=_whole(meta.get("iter")),
        epoch=_whole(meta.get("epoch")),
        chosen_by=by,
        chosen_on=by.rpartition("/")[0] if by and "/" in by else None,
        world_size=_world_size(Path(path)),
    )


def parse_config(text: str) -> dict[str, Any]:
    """The values of a dumped config (``Config.pretty_text``), read without running it.

    Raises:
        ValueError: it holds more than assignments of plain values.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"not a dumped config: {error}") from error
    values = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            raise ValueError(f"line {node.lineno} of a dumped config is not an assignment")
        values[node.targets[0].id] = _plain(node.value)
    return values


def fingerprint(path: str | Path) -> str:
    """sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _plain(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        # dict(key=value) or, where a key is no identifier, dict({"key": value})
        values = [_plain(argument) for argument in node.args]
        if any(k.arg is None for k in node.keywords) or [type(v) for v in values] not in (
            [],
            [dict],
        ):
            raise ValueError(f"a dumped config holds plain values, not {ast.unparse(node)}")
        given = {str(k.arg): _plain(k.value) for k in node.keywords}
        return {**values[0], **given} if values else given
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _plain(key) for key in node.keys]
        return dict(zip(keys, map(_plain, node.values), strict=True))
    if isinstance(node, ast.List):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_plain(item) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"a dumped config holds plain values, not {ast.unparse(node)}") from error


def _chosen_by(
    path: Path, checkpoint: Mapping[str, Any], meta: Mapping[str, Any], config: Any
) -> str | None:
    """The key of ``save_best`` that chose this file, or None."""
    hook = ((config or {}).get("default_hooks") or {}).get("checkpoint") or {}
    given = hook.get("save_best")
    keys = [given] if isinstance(given, str) else list(given or [])
    info = (checkpoint.get("message_hub") or {}).get("runtime_info") or {}
    bests = {k: v for k, v in info.items() if str(k).startswith("best_ckpt") and v}
    if path.name.startswith("best_"):
        match = re.match(r"best_(.+)_(?:iter|epoch)_\d+(?:-[0-9a-f]{8})?\.\w+$", path.name)
        name = match[1] if match else path.stem.removeprefix("best_")
        return _key(name, keys, config)
    # The same file under another name: the hook writes it without the optimiser, and the hub has
    # its iteration. The plain checkpoint of that iteration was not chosen.
    if "optimizer" in checkpoint:
        return None
    for label, best in bests.items():
        match = re.match(r"best_(.+)_(iter|epoch)_(\d+)\.\w+$", PurePath(str(best)).name)
        if match and int(match[3]) == meta.get(match[2]):
            own = str(label).removeprefix("best_ckpt").removeprefix("_")
            return own or _key(match[1], keys, config)
    return None


def _key(name: str, keys: list[str], config: Any) -> str:
    """``cityscapes_mIoU``, as a file name has it, -> ``cityscapes/mIoU``."""
    for key in keys:
        if key.replace("/", "_") == name:
            return key
    domains = (config or {}).get("val_dataloader") or {}
    for domain in sorted(domains, key=len, reverse=True):
        if name.startswith(f"{domain}_"):
            return f"{domain}/{name[len(domain) + 1 :]}"
    match = re.fullmatch(
        r"(.+?)_((?:boundary_)?mIoU\w*|pixel_accuracy|class_accuracy|top-\d+|mAP|rank-\d+)", name
    )
    return f"{match[1]}/{match[2]}" if match else name


def _world_size(path: Path) -> int | None:
    import json

    try:
        content = json.loads((path.parent / "manifest_train.json").read_text(encoding="utf-8"))
        return _whole(content.get("world_size"))
    except (OSError, ValueError, AttributeError):
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
