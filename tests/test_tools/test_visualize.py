from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbones import ResNet, create_model
from backbones.divergence import divergence, feature_statistics


@pytest.fixture
def domains(tmp_path: Path) -> tuple[str, str]:
    """Two small sets of noise, the second one darker and redder; one lies in sub-folders."""
    rng = np.random.default_rng(0)
    for name, tint, place in (("day", (1, 1, 1), "."), ("night", (0.3, 0.4, 0.7), "a/b")):
        folder = tmp_path / name / place
        folder.mkdir(parents=True)
        for i in range(6):
            coarse = rng.integers(0, 256, (4, 3, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (36, 48), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f"{i}.png"), (image * tint).astype(np.uint8))
    (tmp_path / "day" / "notes.txt").write_text("not an image")
    return f"day={tmp_path / 'day'}", f"night={tmp_path / 'night'}"


def options(domains: tuple[str, str], **other: object) -> list[object]:
    given: list[object] = ["divergence", "--domain", domains[0], "--domain", domains[1]]
    for name, value in {"size": "32x32", **other}.items():
        given += [f"--{name.replace('_', '-')}", value]
    return given


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def picture(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None and len(np.unique(image)) > 20
    return image


class TestDivergence:
    def test_models_of_the_zoo(self, tool, domains, tmp_path) -> None:
        out = tmp_path / "new" / "figure.png"
        arguments = [*options(domains, out=out, seed=3, batch_size=4), "--model", "resnet18"]
        arguments += ["--model", "IBN-b $=resnet18_ibn_b"]
        code, text, err = tool("visualize", *arguments)
        assert code == 0, err
        for words in (
            "day (6 images) against night (6)",
            "resnet18: resnet18, weights: random initialisation (seed 3)",
            "images: resized to 32x32, RGB mean 123.675/116.28/103.53",
            "symmetric KL",
            "would differ by",
        ):
            assert words in text
        assert "24/24" in err  # progress, off the output
        rows = read_csv(out.with_suffix(".csv"))
        assert [r["layer"] for r in rows[:9]] == [
            "stem", *(f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1))
        ]  # fmt: skip
        assert {r["model"] for r in rows} == {"resnet18", "IBN-b $"} and len(rows) == 18
        assert rows[0]["images_a"] == "6" and rows[0]["seed"] == "3"

        # the same from Python, images read and normalised by hand
        torch.manual_seed(3)
        net = create_model("resnet18_ibn_b", num_classes=0)
        mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
        found = []
        for domain in domains:
            files = sorted(Path(domain.partition("=")[2]).rglob("*.png"))
            images = [cv2.imread(str(f))[..., ::-1] for f in files]
            images = [cv2.resize(i, (32, 32), interpolation=cv2.INTER_AREA) for i in images]
            batch = torch.from_numpy(np.stack([(i - mean) / std for i in images]))
            found.append(feature_statistics(net, [batch.permute(0, 3, 1, 2).float()]))
        for row, value in zip(rows[9:], divergence(*found).values(), strict=True):
            assert float(row["divergence"]) == pytest.approx(value, rel=1e-3)
            assert f" {float(row['divergence']):.3f} " in text

        # again, under another user's settings: the very same files
        first = out.read_bytes(), out.with_suffix(".csv").read_bytes()
        picture(out)
        with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "savefig.dpi": 30}):
            assert tool("visualize", *arguments)[0] == 0
        assert (out.read_bytes(), out.with_suffix(".csv").read_bytes()) == first

    def test_a_config_with_weights_and_without(
        self, tool, world, trained, domains, tmp_path
    ) -> None:
        config, out = world / "tiny.py", tmp_path / "f.png"
        code, text, err = tool(
            "visualize", "divergence", "--domain", f"noon={world / 'noon'}",
            "--domain", f"dusk={world / 'dusk'}", "--domain", domains[1], "--limit", "20",
            "--model", f"before={config}", "--model", f"after={config}",
            "--weights", "none", "--weights", trained, "--out", out, "--csv", tmp_path / "n.csv",
        )  # fmt: skip
        assert code == 0, err
        assert "images: Resize(height=64, width=32), RGB mean" in text
        assert f"after: {config}, weights: {trained}" in text
        assert "before: " in text and "random initialisation (seed 0)" in text
        assert "at most 20 images each, seed 0" in text
        rows = read_csv(tmp_path / "n.csv")
        assert not out.with_suffix(".csv").exists()
        # the first domain against each of the others, for both models
        values: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            assert row["domain_a"] == "noon" and row["images_a"] == "20"
            values.setdefault((row["model"], row["domain_b"]), []).append(float(row["divergence"]))
        assert len(values) == 4 and all(len(v) == 9 for v in values.values())
        assert values["before", "dusk"] != values["after", "dusk"]

    def test_models_of_other_depth_in_one_figure(self, tool, domains, tmp_path) -> None:
        out = tmp_path / "f.png"
        models = ["--log", "--model", "resnet18", "--model", "resnet34"]
        code, text, err = tool("visualize", *options(domains, out=out), *models)
        assert code == 0, err
        assert text.count("mean over layers") == 2 and len(read_csv(tmp_path / "f.csv")) == 9 + 17
        picture(out)

    def test_limit_is_drawn_by_the_seed(self, tool, domains, tmp_path) -> None:
        files = []
        for k, seed in enumerate((0, 0, 1)):
            out = tmp_path / f"{k}.png"
            extra = options(domains, out=out, limit=3, seed=seed)
            weights = tmp_path / "w.pth"
            if not weights.exists():
                torch.save(create_model("resnet18").state_dict(), weights)
            code, _, err = tool("visualize", *extra, "--model", "resnet18", "--weights", weights)
            assert code == 0, err
            files.append([row["divergence"] for row in read_csv(out.with_suffix(".csv"))])
        assert files[0] == files[1] != files[2]

    def test_unreadable_images_are_named_and_skipped_only_by_choice(
        self, tool, domains, tmp_path
    ) -> None:
        bad = Path(domains[0].partition("=")[2]) / "2.png"
        bad.write_bytes(bad.read_bytes()[:100])
        arguments = [*options(domains, out=tmp_path / "f.png"), "--model", "resnet18"]
        code, _, err = tool("visualize", *arguments)
        assert code == 1 and "truncated" in err and str(bad) in err.replace("\n", "")
        assert "--skip-unreadable" in err and not (tmp_path / "f.png").exists()
        code, text, err = tool("visualize", *arguments, "--skip-unreadable")
        assert code == 0, err
        assert f"skipped {bad}: " in text and "day (5 images) against night (6)" in text

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model": "resnet81"}, "did you mean"),
            ({"model": "configs/reid/resnet18_smal_market1501.py"}, "did you mean"),
            ({"domain": "dusk"}, "expected NAME=FOLDER"),
            ({"domain": "dusk=/nowhere"}, "no folder at /nowhere"),
            ({"domain": "dusk={tmp}/empty"}, "no images"),
            ({"domain": "dusk={tmp}/one"}, "one image"),
            ({"domain": "day={tmp}/night"}, "two domains are called 'day'"),
            ({"weights": "a.pth b.pth"}, "one for each of the 1 models"),
            ({"weights": "{tmp}/absent.pth"}, "no checkpoint at"),
            ({"model": "resnet18 resnet18"}, "give each a label"),
            ({"limit": "0"}, "--limit: expected 1 or more"),
            ({"limit": "1"}, "two or more"),
            ({"batch-size": "-1"}, "--batch-size: expected 1 or more"),
            ({"out": "{tmp}/f.pdf"}, "is a .png file"),
        ],
    )
    def test_mistakes(self, tool, domains, tmp_path, change, message) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "one").mkdir()
        image = Path(domains[0].partition("=")[2]) / "0.png"
        (tmp_path / "one" / "0.png").write_bytes(image.read_bytes())
        given: dict[str, Any] = {"model": "resnet18", "domain": domains[1], "out": "{tmp}/f.png"}
        arguments = ["divergence", "--domain", domains[0], "--size", "32x32"]
        for name, values in {**given, **change}.items():
            for value in values.split(" "):
                arguments += [f"--{name}", value.format(tmp=tmp_path)]
        code, _, err = tool("visualize", *arguments)
        assert code == 1 and "Traceback" not in err, err
        assert err.splitlines()[-1].startswith("error: ") and message in err.replace("\n", " ")
        assert not list(tmp_path.glob("f.*"))

    def test_one_domain_is_no_comparison(self, tool, domains) -> None:
        code, _, err = tool(
            "visualize", "divergence", "--model", "resnet18", "--domain", domains[0]
        )
        assert code == 1 and "give two or more" in err

    @pytest.mark.parametrize("size", ["0", "128x", "x64", "12.5", "-3"])
    def test_sizes_that_are_none(self, tool, domains, size) -> None:
        code, _, err = tool(
            "visualize", "divergence", "--model", "resnet18", "--domain", domains[0],
            "--domain", domains[1], f"--size={size}",
        )  # fmt: skip
        assert code == 2 and "HEIGHTxWIDTH" in err

    def test_size_of_one_number_is_a_central_square(self, tool, tmp_path) -> None:
        """Wide images whose middle is grey and whose ends differ: at --size N nothing differs."""
        rng = np.random.default_rng(0)
        for name, ends in (("a", 0), ("b", 255)):
            (tmp_path / name).mkdir()
            for i in range(6):
                image = rng.integers(100, 140, (32, 128, 3)).astype(np.uint8)
                image[:, :16] = image[:, -16:] = ends
                cv2.imwrite(str(tmp_path / name / f"{i}.png"), image)
        values = []
        for size in ("32", "32x128"):
            out = tmp_path / f"{size}.png"
            code, text, err = tool(
                "visualize", "divergence", "--model", "resnet18", "--size", size, "--out", out,
                "--domain", f"a={tmp_path / 'a'}", "--domain", f"b={tmp_path / 'b'}",
            )  # fmt: skip
            assert code == 0, err
            assert ("shorter side 37, central 32x32" in text) is (size == "32")
            values.append(float(read_csv(out.with_suffix(".csv"))[0]["divergence"]))
        assert values[0] < 20 < values[1]


class TestGates:
    def save(self, path: Path, gates: dict[str, torch.Tensor], wrap: Any = lambda s: s) -> Path:
        state = {}
        for name, gate in gates.items():
            state[f"{name}.weight"] = torch.ones(len(gate))
            state[f"{name}.gate"] = gate
            state[f"{name}.running_mean"] = torch.zeros(len(gate))
        torch.save(wrap(state), path)
        return path

    @pytest.mark.parametrize(
        ("prefix", "wrap"),
        [
            ("", lambda s: s),
            ("module.", lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}}),
            ("module.backbone.", lambda s: {"net": {"inner": s}}),
        ],
    )
    def test_any_prefix_and_container(self, tool, tmp_path, prefix, wrap) -> None:
        gates = {
            f"{prefix}bn1": torch.tensor([0.0, 1.0]),
            f"{prefix}layer1.0.bn1": torch.tensor([0.25, 0.5, -0.5, 1.5]),  # clamped, as BIN does
            f"{prefix}layer1.0.downsample.1": torch.tensor([1.0]).half(),
        }
        path, out = self.save(tmp_path / "bin.pth", gates, wrap), tmp_path / "g.png"
        code, text, err = tool("visualize", "gates", "--checkpoint", path, "--out", out)
        assert code == 0, err
        rows = read_csv(tmp_path / "g.csv")
        assert [(r["depth"], r["layer"], r["channel"], float(r["gate"])) for r in rows] == [
            *(("0", "bn1", "0", 0), ("0", "bn1", "1", 1)),
            *(("1", "layer1.0.bn1", "0", 0.25), ("1", "layer1.0.bn1", "1", 0.5)),
            *(("1", "layer1.0.bn1", "2", 0), ("1", "layer1.0.bn1", "3", 1)),
            ("2", "layer1.0.downsample.1", "0", 1),
        ]
        assert "2 gates lie outside [0, 1]" in text
        summary = next(line for line in text.splitlines() if "all layers" in line)
        assert summary.split()[2:] == ["7", "0.536", "28.6", "42.9"]  # mean 3.75/7; 2/7; 3/7
        picture(out)

    def test_of_our_own_network_in_both_formats(self, tool, tmp_path) -> None:
        """safetensors files are sorted by name, where layer1.10 comes before layer1.2."""
        net = ResNet(18, norm="bin")
        for name, parameter in net.named_parameters():
            if name.endswith("gate"):
                torch.nn.init.uniform_(parameter)
        torch.save(net.state_dict(), tmp_path / "a.pth")
        save_file(net.state_dict(), tmp_path / "b.safetensors")
        layers = []
        for name in ("a.pth", "b.safetensors"):
            out = tmp_path / f"{name}.png"
            code, _, err = tool("visualize", "gates", "--checkpoint", tmp_path / name, "--out", out)
            assert code == 0, err
            found = {row["layer"]: [] for row in read_csv(out.with_suffix(".csv"))}
            for row in read_csv(out.with_suffix(".csv")):
                found[row["layer"]].append(float(row["gate"]))
            state = net.state_dict()
            assert {k: pytest.approx(state[f"{k}.gate"].tolist(), rel=1e-5) for k in found} == found
            layers.append(list(found))
        assert layers[0] == layers[1] and len(layers[0]) == 20

    def test_order_of_many_blocks(self, tool, tmp_path) -> None:
        names = sorted(f"layer1.{i}.bn1" for i in range(12))
        path = self.save(tmp_path / "b.pth", {n: torch.rand(3) for n in names})
        code, _, err = tool("visualize", "gates", "--checkpoint", path, "--out", tmp_path / "b.png")
        assert code == 0, err
        found = list(dict.fromkeys(row["layer"] for row in read_csv(tmp_path / "b.csv")))
        assert found == [f"layer1.{i}.bn1" for i in range(12)]

    def test_several_sets_of_weights(self, tool, tmp_path) -> None:
        gates = {"bn1": torch.tensor([0.5])}
        path = self.save(tmp_path / "b.pth", gates, lambda s: {"state_dict": s, "ema": dict(s)})
        code, _, err = tool("visualize", "gates", "--checkpoint", path, "--out", tmp_path / "b.png")
        assert code == 1 and "(state_dict, ema); choose with --part" in err
        for part, expected in (("ema", 0), ("best", 1)):
            arguments = ["--checkpoint", path, "--part", part, "--out", tmp_path / "b.png"]
            code, _, err = tool("visualize", "gates", *arguments)
            assert code == expected and ("no part 'best'" in err) is bool(expected)

    def test_checkpoints_without_gates_say_what_they_are(self, tool, tmp_path) -> None:
        torch.save({"state_dict": create_model("resnet18_ibn_a").state_dict()}, tmp_path / "i.pth")
        torch.save({"gate": torch.ones(3), "conv.weight": torch.ones(1)}, tmp_path / "g.pth")
        torch.save({"epoch": 3}, tmp_path / "e.pth")
        self.save(tmp_path / "nan.pth", {"bn1": torch.tensor([float("nan")])})
        for name, words in (
            ("i.pth", "holds no BIN gates.*a ResNet-18 with IBN-a.*conv1.weight"),
            ("g.pth", "holds no BIN gates.*2 tensors"),  # a gate, but not of a norm
            ("e.pth", "no float tensors at all"),
            ("nan.pth", "bn1 holds numbers that are not finite"),
            ("absent.pth", "no checkpoint at"),
        ):
            code, _, err = tool("visualize", "gates", "--checkpoint", tmp_path / name)
            assert code == 1 and "Traceback" not in err
            assert re.search(words, err), err


class TestSwitches:
    def test_softmaxed_and_in_order(self, tool, tmp_path) -> None:
        log = lambda *values: torch.tensor(values).log()  # noqa: E731
        state = {
            "module.bn1.mean_weight": log(0.2, 0.3, 0.5) + 7,
            "module.bn1.var_weight": log(0.6, 0.3, 0.1),
            "module.bn1.running_mean": torch.zeros(1, 4, 1),
            # without batch statistics IN and LN are left
            "module.layer1.0.bn1.mean_weight": log(0.25, 0.75),
            "module.layer1.0.bn1.var_weight": log(0.5, 0.5),
            # features without positions have LN and BN
            "module.neck.mean_weight": log(0.25, 0.75),
            "module.neck.var_weight": log(0.9, 0.1),
            "module.neck.running_mean": torch.zeros(1, 4, 1),
        }
        torch.save({"state_dict": state, "best_prec1": 0.5}, tmp_path / "sn.pth")
        out = tmp_path / "s.png"
        code, text, err = tool(
            "visualize", "switches", "--checkpoint", tmp_path / "sn.pth", "--out", out
        )
        assert code == 0, err
        rows = {
            (r["layer"], r["moment"]): [float(r[k]) for k in ("in", "ln", "bn")]
            for r in read_csv(tmp_path / "s.csv")
        }
        assert rows == {
            ("bn1", "mean"): pytest.approx([0.2, 0.3, 0.5]),
            ("bn1", "var"): pytest.approx([0.6, 0.3, 0.1]),
            ("layer1.0.bn1", "mean"): pytest.approx([0.25, 0.75, 0]),
            ("layer1.0.bn1", "var"): pytest.approx([0.5, 0.5, 0]),
            ("neck", "mean"): pytest.approx([0, 0.25, 0.75]),
            ("neck", "var"): pytest.approx([0, 0.9, 0.1]),
        }
        line = next(line for line in text.splitlines() if "mean over layers" in line)
        assert line.split()[3:] == ["15.0", "43.3", "41.7", "36.7", "56.7", "6.7"]
        picture(out)

    def test_of_our_own_network(self, tool, tmp_path) -> None:
        net = ResNet(18, norm="sn")
        torch.save(net.state_dict(), tmp_path / "sn.pth")
        out = tmp_path / "s.png"
        code, _, err = tool(
            "visualize", "switches", "--checkpoint", tmp_path / "sn.pth", "--out", out
        )
        assert code == 0, err
        rows = read_csv(tmp_path / "s.csv")
        assert len(rows) == 2 * 20 and rows[0]["layer"] == "bn1"
        assert all(float(row[k]) == pytest.approx(1 / 3) for row in rows for k in ("in", "bn"))

    def test_a_network_with_other_norms(self, tool, tmp_path) -> None:
        torch.save(ResNet(18, norm="bin").state_dict(), tmp_path / "bin.pth")
        code, _, err = tool("visualize", "switches", "--checkpoint", tmp_path / "bin.pth")
        assert code == 1 and "no SN switches" in err and "with batch-instance norm" in err
