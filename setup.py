"""Package metadata. The room lists are explicit: a folder that is not named here is not shipped."""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup

PACKAGES = [
    "backbones",
    "backbones.norm",
    "engine",
    "imaging",
    "cls",
    "cls.datasets",
    "cls.evaluation",
    "reid",
    "reid.datasets",
    "reid.models",
    "reid.losses",
    "reid.evaluation",
    "reid.gallery",
    "reid.service",
    "reid.synthetic",
    "seg",
    "seg.datasets",
    "seg.evaluation",
    "seg.models",
    "seg.synthetic",
    "seg.transforms",
]

# faiss-cpu and faiss-gpu own the same `faiss/` folder, so exactly one may be installed. pip cannot
# drop a base requirement for an extra (a marker `extra != "gpu"` still installs both), hence one
# environment variable: REIDSEG_FAISS=cpu (default) | gpu | none (bring your own, e.g. from conda).
FAISS_CHOICES = {"cpu": ["faiss-cpu"], "gpu": ["faiss-gpu"], "none": []}
FAISS = os.environ.get("REIDSEG_FAISS", "cpu").strip().lower()
if FAISS not in FAISS_CHOICES:
    raise SystemExit(
        f"REIDSEG_FAISS is {FAISS!r}; expected one of {', '.join(FAISS_CHOICES)}. "
        "Example: REIDSEG_FAISS=gpu pip install -e '.[gpu]'"
    )

INSTALL_REQUIRES = [
    "torch>=2.6",
    "torchvision",
    "numpy",
    "onedl-mmengine>=0.10.12",
    "albumentations>=2",
    "opencv-python-headless",
    "safetensors",
    "tqdm",
    "rich",
    "matplotlib",
    "scipy",
    "scikit-learn",
    "tensorboard",
    # A gallery keeps its records in Parquet files.
    "pyarrow",
    *FAISS_CHOICES[FAISS],
]

EXTRAS_REQUIRE = {
    # All three by name: onedl-mmsegmentation requires neither of the others, and the packages that
    # these replace (mmengine, mmcv, mmsegmentation) do not run on a current torch.
    # scipy reads GTA5's split.mat, pillow palettes, stringzilla looks labels up; what else is
    # here, or albumentations, brings them anyway.
    "seg": [
        *("onedl-mmengine>=0.10.12", "onedl-mmcv>=2.3.6", "onedl-mmsegmentation>=1.4.2"),
        *("pillow", "scipy", "stringzilla"),
    ],
    # To be given with REIDSEG_FAISS=gpu: alone it brings both, which the first search refuses.
    "gpu": FAISS_CHOICES["gpu"],
    # More networks, whose norms backbones.convert_norm replaces.
    "timm": ["timm"],
    # To write ONNX files (torch.onnx.export asks for the first two) and to run them.
    "export": ["onnx", "onnxscript", "onnxruntime"],
    # Its losses and miners in configs of re-ID.
    "metric-learning": ["pytorch-metric-learning"],
    # The gallery as a web service.
    "serve": [
        *("fastapi", "starlette", "pydantic>=2", "uvicorn", "python-multipart"),
        "prometheus-client",
    ],
    # Galleries on a Milvus server, or in Milvus's own file.
    "milvus": ["pymilvus>=3.0", "milvus-lite>=3.0"],
}
# Tests of what an extra brings are skipped without it: dev has all of them but seg, the largest.
EXTRAS_REQUIRE["dev"] = ["pytest>=8", "pytest-xdist", "ruff", "mypy"]
# To test the service: clients, made-up requests, a browser; and a real Milvus server (Linux, x86).
EXTRAS_REQUIRE["dev"] += ["httpx", "hypothesis", "pillow", "schemathesis", "playwright"]
EXTRAS_REQUIRE["dev"] += ["milvus==2.3.5; sys_platform == 'linux' and platform_machine == 'x86_64'"]
for extra in ("timm", "export", "metric-learning", "serve", "milvus"):
    EXTRAS_REQUIRE["dev"] += EXTRAS_REQUIRE[extra]
# Everything that can be installed together: not gpu, which excludes faiss-cpu.
EXTRAS_REQUIRE["all"] = EXTRAS_REQUIRE["seg"] + EXTRAS_REQUIRE["dev"]

setup(
    name="reidseg",
    version="0.1.0",
    description="Person re-identification, cross-domain segmentation and normalisation layers",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=PACKAGES,
    package_data={  # C++ is compiled at the first use
        "backbones.norm": ["*.cpp"],
        "reid.evaluation": ["*.cpp"],
        "reid.gallery": ["*.cpp"],
        "reid.service": ["page/*"],
    },
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
