"""The rules of the house (docs/architecture.md), checked on the source with `ast`.

No room is imported. Each rule is a pure function from a parsed file to its violations, and is
itself tested on a line that breaks it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY_ROOMS = ("backbones", "engine", "imaging", "cls", "reid", "seg")

# What a room may import beside the standard library and itself.
FOUNDATION = {"torch", "numpy", "mmengine", "safetensors", "tqdm", "rich"}
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "multipart"}
MAY_IMPORT = {
    "backbones": FOUNDATION | {"triton"},
    "engine": FOUNDATION
    | {"backbones"}
    | {"onnx", "onnxruntime", "onnxscript"},  # not everywhere: CONFINED
    "imaging": FOUNDATION | {"engine", "albumentations", "cv2", "torchvision"},
    "cls": FOUNDATION | {"backbones", "engine", "imaging", "matplotlib", "torchvision"},
    "reid": FOUNDATION
    | {"backbones", "engine", "imaging", "albumentations", "cv2", "matplotlib", "scipy", "sklearn"}
    | {"faiss", "pymilvus", "milvus_lite", "pyarrow", *WEB}  # not everywhere: CONFINED
    | {"pytorch_metric_learning", "onnx", "onnxruntime", "onnxscript"},
    "seg": FOUNDATION
    | {"backbones", "engine", "imaging", "albumentations", "cv2", "matplotlib", "mmcv", "mmseg"}
    | {"PIL", "scipy", "stringzilla"}
    | {"timm", "onnx", "onnxruntime", "onnxscript"},  # not everywhere: CONFINED
}

# Third-party packages that only some files of their room may import.
CONFINED = {
    "faiss": ("reid/gallery/",),
    **dict.fromkeys(("pymilvus", "milvus_lite"), ("reid/gallery/milvus",)),
    "timm": ("seg/models/frozen_vit.py",),
    "pyarrow": ("reid/features.py", "reid/gallery/"),
    "pytorch_metric_learning": ("reid/losses/metric_learning.py",),
    "sklearn": ("reid/evaluation/embedding_map.py",),
    **dict.fromkeys(
        ("onnx", "onnxruntime", "onnxscript"), ("seg/export.py", "reid/export.py", "engine/onnx")
    ),
    **dict.fromkeys(WEB, ("reid/service/",)),
}

# Inside reid the arrows point one way: service -> inference, gallery; inference -> models.
NEVER_INSIDE_REID = {
    "datasets": {"models", "losses", "evaluation", "gallery", "inference", "service"},
    "losses": {"datasets", "models", "evaluation", "gallery", "inference", "service"},
    "models": {"datasets", "evaluation", "gallery", "inference", "service"},
    "evaluation": {"models", "losses", "inference", "service"},
    "gallery": {"datasets", "models", "losses", "inference", "service"},
    "inference": {"service"},
    "export": {"service", "gallery"},
    "features": {"models", "losses", "inference", "service", "gallery"},
}

# A dotted type in a config begins with one of these.
SCOPES = {*LIBRARY_ROOMS, "mmengine", "mmcv", "mmseg", "torch"}

NAMELESS = {"utils", "util", "common", "misc", "helpers", "helper"}

# Distributions whose import name differs.
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "faiss": "faiss-cpu",
    "PIL": "pillow",
    "milvus_lite": "milvus-lite",
    "multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
    "pytorch_metric_learning": "pytorch-metric-learning",
    "sklearn": "scikit-learn",
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmseg": "onedl-mmsegmentation",
    "yaml": "pyyaml",
}

# Importing one of these costs more than answering --help should.
HEAVY = {"torch", "torchvision", "mmengine", "mmcv", "mmseg", "cv2", "faiss", "albumentations"}
HEAVY |= {"scipy", "sklearn", "matplotlib", "pyarrow", "onnx", "onnxruntime"}
HEAVY |= {"pymilvus", "milvus_lite", "fastapi", "pydantic", "prometheus_client"}

Violations = Iterator[tuple[int, str]]


def python_files(*folders: str) -> list[str]:
    """Paths relative to the root, in a stable order; folders that do not exist yet are empty."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def imported_modules(tree: ast.AST, path: str) -> Iterator[tuple[int, str]]:
    """Absolute dotted names of all imports, wherever they stand.

    ``from a import b`` gives ``a.b``, for ``b`` may be a module. Relative imports are resolved,
    and ``importlib.import_module("a")`` counts.
    """
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif (
            isinstance(node, ast.Call)
            and called_name(node) in {"importlib.import_module", "import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def called_name(node: ast.Call) -> str:
    """``torch.load`` for ``torch.load(...)``; empty for what is not a plain dotted name."""
    parts: list[str] = []
    target = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    return ".".join(reversed([*parts, target.id])) if isinstance(target, ast.Name) else ""


# ------------------------------------------------------------------------------------- the rules


def foreign_imports(tree: ast.AST, path: str) -> Violations:
    """A room imports the standard library, itself, and what the table grants."""
    room = path.split("/")[0]
    for line, module in imported_modules(tree, path):
        top = module.split(".")[0]
        if top not in {room} | MAY_IMPORT[room] | sys.stdlib_module_names:
            yield line, f"imports {top}; {room} may import {sorted(MAY_IMPORT[room])}"


def confined_imports(tree: ast.AST, path: str) -> Violations:
    """FAISS, the Milvus client and the web framework stay where they belong."""
    for line, module in imported_modules(tree, path):
        places = CONFINED.get(module.split(".")[0])
        if places and not path.startswith(places):
            yield line, f"imports {module.split('.')[0]}, which belongs in {' or '.join(places)}"


def upward_imports(tree: ast.AST, path: str) -> Violations:
    """Inside reid nothing imports what stands above it; gallery and evaluation see no model."""
    inside = path.removesuffix(".py").split("/")[1]
    never = NEVER_INSIDE_REID.get(inside, set())
    for line, module in imported_modules(tree, path):
        parts = module.split(".")
        if parts[0] == "reid" and len(parts) > 1 and parts[1] in never:
            yield line, f"imports {module}; reid.{inside} never imports {sorted(never)}"
        if parts[0] == "backbones" and inside in {"datasets", "losses", "evaluation", "gallery"}:
            yield line, f"imports {module}; reid.{inside} knows no network"


def tool_imports(tree: ast.AST, path: str) -> Violations:
    """A tool imports public names of the rooms, and no other tool."""
    tools = {Path(tool).stem for tool in python_files("tools")} | {"tools", "benchmark"}
    for line, module in imported_modules(tree, path):
        parts = module.split(".")
        if parts[0] in tools:
            yield line, f"imports the tool {module}; what two tools share belongs in a room"
        if parts[0] in LIBRARY_ROOMS and any(part.startswith("_") for part in parts):
            yield line, f"imports {module}; tools use public names"


def prints(tree: ast.AST, path: str) -> Violations:
    """Library rooms log or return; they do not print."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called_name(node) == "print":
            yield node.lineno, "prints; use logging or a return value"


def unpickling(tree: ast.AST, path: str) -> Violations:
    """Nothing runs code from a data file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        name = called_name(node)
        if (
            name in {"torch.load", "torch.hub.load_state_dict_from_url"}
            and given.get("weights_only") is not True
        ):
            yield node.lineno, f"{name} without weights_only=True"
        if name in {"pickle.load", "pickle.loads", "pickle.Unpickler"}:
            yield node.lineno, f"{name} runs code from the file"
        if given.get("allow_pickle") is True:
            yield node.lineno, "allow_pickle=True runs code from the file"


def config_types(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string given as ``type=`` in a call or under the key ``'type'`` of a dict."""
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            values = [k.value for k in node.keywords if k.arg == "type"]
        elif isinstance(node, ast.Dict):
            values = [
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "type"
            ]
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def config_rules(tree: ast.AST, ours: dict[str, str]) -> Violations:
    """A config imports nothing and names our types with their room (`reid.Market1501`).

    ``ours`` maps each registered name to the room that registers it.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno, "imports; a config is data"
        if isinstance(node, ast.Name) and node.id == "custom_imports":
            yield node.lineno, "custom_imports; a prefixed type is found without"
        if isinstance(node, ast.keyword) and node.arg == "custom_imports":
            yield node.lineno, "custom_imports; a prefixed type is found without"
    for line, name in config_types(tree):
        scope, _, _ = name.rpartition(".")
        if not scope and name in ours:
            yield line, f"type={name!r} is ours: write {ours[name]}.{name}"
        if scope and scope.split(".")[0] not in SCOPES:
            yield line, f"type={name!r} begins with none of {sorted(SCOPES)}"


def registered_names(tree: ast.AST) -> Iterator[str]:
    """Names of classes and functions decorated with ``@REGISTRY.register_module(...)``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for call in filter(lambda d: isinstance(d, ast.Call), node.decorator_list):
            if called_name(call).endswith(".register_module"):
                named = [k.value.value for k in call.keywords if k.arg == "name"]
                yield named[0] if named else node.name


# ---------------------------------------------------------------------------- the house keeps them


def report(path: str, violations: Violations) -> None:
    found = [f"{path}:{line}: {message}" for line, message in violations]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("path", python_files(*LIBRARY_ROOMS))
def test_library_room(path: str) -> None:
    tree = parse(path)
    for rule in (foreign_imports, confined_imports, prints, unpickling):
        report(path, rule(tree, path))
    if path.startswith("reid/"):
        report(path, upward_imports(tree, path))


@pytest.mark.parametrize("path", python_files("tools"))
def test_tool(path: str) -> None:
    tree = parse(path)
    for rule in (tool_imports, confined_imports, unpickling):
        report(path, rule(tree, path))


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return {
        name: path.split("/")[0]
        for path in python_files(*LIBRARY_ROOMS)
        for name in registered_names(parse(path))
    }


@pytest.mark.parametrize("path", python_files("configs"))
def test_config(path: str, ours: dict[str, str]) -> None:
    report(path, config_rules(parse(path), ours))


def test_no_file_or_folder_without_a_noun() -> None:
    paths = python_files(*LIBRARY_ROOMS, "tools", "configs", "tests")
    nameless = [p for p in paths if NAMELESS & set(p.removesuffix(".py").split("/"))]
    assert not nameless, f"a helper lives beside its caller or gets a noun: {nameless}"


def test_setup_lists_exactly_the_packages_on_disk() -> None:
    (listed,) = (
        ast.literal_eval(node.value)
        for node in parse("setup.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PACKAGES"
    )
    on_disk = {str(Path(p).parent).replace("/", ".") for p in python_files(*LIBRARY_ROOMS)}
    assert set(listed) == on_disk
    assert len(listed) == len(set(listed))
    for package in on_disk:
        init = ROOT / package.replace(".", "/") / "__init__.py"
        assert init.exists(), f"{package} has modules but no __init__.py"


def test_every_third_party_import_is_declared() -> None:
    strings = [node.value for node in ast.walk(parse("setup.py")) if isinstance(node, ast.Constant)]
    declared = {re.split(r"[<>=]", text)[0] for text in strings if isinstance(text, str)}
    known = {*LIBRARY_ROOMS, *sys.stdlib_module_names, "triton"}  # triton comes with torch
    for path in python_files(*LIBRARY_ROOMS, "tools"):
        for line, module in imported_modules(parse(path), path):
            top = module.split(".")[0]
            if top not in known:
                name = DISTRIBUTION.get(top, top)
                assert name in declared, f"{path}:{line}: {name} is not required in setup.py"


@pytest.mark.parametrize("path", python_files("tools"))
def test_help_answers_without_heavy_imports(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", path, "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage:" in done.stdout.lower()
    # Lines of -X importtime read `import time: self | cumulative | package.module`.
    imported = re.findall(r"^import time:.*\|\s*([\w.]+)$", done.stderr, flags=re.MULTILINE)
    heavy = HEAVY & {module.split(".")[0] for module in imported}
    assert not heavy, f"{path} --help imports {sorted(heavy)}; import them where they are used"


# -------------------------------------------------------------------------- the rules bite


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (foreign_imports, "backbones/resnet.py", "import reid"),
        (foreign_imports, "backbones/norm/ibn.py", "def f():\n    from mmcv.cnn import build"),
        (foreign_imports, "engine/loops.py", "from reid.evaluation import evaluate_ranking"),
        (foreign_imports, "engine/loops.py", "import importlib\nimportlib.import_module('faiss')"),
        (foreign_imports, "reid/inference.py", "import seg.inference"),
        (foreign_imports, "seg/inference.py", "if TYPE_CHECKING:\n    import faiss"),
        (confined_imports, "reid/inference.py", "import faiss"),
        (confined_imports, "reid/evaluation/metric.py", "import faiss"),
        (confined_imports, "reid/gallery/gallery.py", "from pymilvus import MilvusClient"),
        (confined_imports, "tools/serve_gallery.py", "import uvicorn"),
        (upward_imports, "reid/gallery/gallery.py", "from reid.models import Embedder"),
        (upward_imports, "reid/gallery/gallery.py", "from .. import models"),
        (upward_imports, "reid/evaluation/metric.py", "from ..inference import FeatureExtractor"),
        (upward_imports, "reid/evaluation/metric.py", "from backbones import create_model"),
        (upward_imports, "reid/inference.py", "from reid import service"),
        (tool_imports, "tools/train_reid.py", "from tools.test_reid import main"),
        (tool_imports, "tools/train_reid.py", "from reid.gallery import _rows"),
        (prints, "reid/inference.py", "def f():\n    print(1)"),
        (unpickling, "backbones/weights.py", "torch.load(path)"),
        (unpickling, "backbones/weights.py", "torch.load(path, weights_only=False)"),
        (unpickling, "reid/gallery/gallery.py", "np.load(path, allow_pickle=True)"),
        (unpickling, "reid/gallery/gallery.py", "pickle.loads(data)"),
    ],
)
def test_rule_catches(rule, path: str, source: str) -> None:
    assert list(rule(ast.parse(source), path))


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (foreign_imports, "backbones/norm/ibn.py", "from ..registry import MODELS\nimport math"),
        (foreign_imports, "reid/models/embedder.py", "from backbones import create_model"),
        (confined_imports, "reid/gallery/index.py", "import faiss"),
        (upward_imports, "reid/inference.py", "from reid.models import Embedder"),
        (upward_imports, "reid/service/app.py", "from reid import inference, gallery"),
        (tool_imports, "tools/train_reid.py", "from engine.cli import train"),
        (prints, "reid/inference.py", "footprints()"),
        (unpickling, "backbones/weights.py", "torch.load(path, weights_only=True)"),
    ],
)
def test_rule_permits(rule, path: str, source: str) -> None:
    assert not list(rule(ast.parse(source), path))


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("model = dict(type='Market1501')", True),
        ("model = {'type': 'Market1501'}", True),
        ("model = dict(type='ried.Market1501')", True),
        ("from mmengine.config import read_base", True),
        ("custom_imports = dict(imports=['reid'])", True),
        ("model = dict(type='reid.Market1501')", False),
        ("optimizer = dict(type='AdamW')", False),
        ("hook = dict(type='mmengine.CheckpointHook')", False),
    ],
)
def test_config_rules(source: str, caught: bool) -> None:
    assert bool(list(config_rules(ast.parse(source), {"Market1501": "reid"}))) is caught


def test_registered_names_are_read_from_decorators() -> None:
    source = """
@M.register_module()
class A: ...
@M.register_module(name='b')
def f(): ...
class C: ...
"""
    assert list(registered_names(ast.parse(source))) == ["A", "b"]
