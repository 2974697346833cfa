from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbones import create_model
from backbones.divergence import (
    ChannelStatistics,
    channel_divergence,
    default_layers,
    divergence,
    divergence_by_chance,
    feature_statistics,
    near_constant,
)


def statistics(mean: object, var: object, count: int = 100) -> ChannelStatistics:
    as_tensor = [torch.as_tensor(value, dtype=torch.float64) for value in (mean, var)]
    return ChannelStatistics(count, *as_tensor)


def symmetric_kl(m_a: float, m_b: float, v_a: float, v_b: float) -> float:
    """The paper's formula, term by term."""
    s_a, s_b = math.sqrt(v_a), math.sqrt(v_b)
    there = math.log(s_b / s_a) + (v_a + (m_a - m_b) ** 2) / (2 * v_b) - 0.5
    back = math.log(s_a / s_b) + (v_b + (m_a - m_b) ** 2) / (2 * v_a) - 0.5
    return there + back


class TestFormula:
    def test_known_values(self) -> None:
        a, b = statistics([0.0, 0.0, 1.0], [1.0, 1.0, 4.0]), statistics([1.0, 0.0, 1.0], [1, 4, 4])
        # one standard deviation apart: 1; twice the deviation: (1/4 + 4)/2 - 1
        assert channel_divergence(a, b).tolist() == pytest.approx([1.0, 1.125, 0.0])
        assert divergence({"x": a}, {"x": b}) == pytest.approx({"x": 2.125 / 3})

    def test_equals_the_sum_of_both_directions(self) -> None:
        mean, var = torch.randn(2, 20).double(), torch.rand(2, 20).double() + 0.1
        found = channel_divergence(statistics(mean[0], var[0]), statistics(mean[1], var[1]))
        expected = [symmetric_kl(*map(float, row)) for row in zip(*mean, *var, strict=True)]
        assert found.tolist() == pytest.approx(expected)
        a, b = (
            torch.distributions.Normal(mean[i], var[i].sqrt(), validate_args=False) for i in (0, 1)
        )
        kl = torch.distributions.kl_divergence
        torch.testing.assert_close(found, kl(a, b) + kl(b, a))

    def test_symmetric_and_blind_to_scale_and_shift(self) -> None:
        mean, var = torch.randn(2, 9).double(), torch.rand(2, 9).double()
        var[0, :3] = 0  # constant in one domain
        a, b = statistics(mean[0], var[0]), statistics(mean[1], var[1])
        found = channel_divergence(a, b)
        assert torch.equal(found, channel_divergence(b, a))
        for scale in (1e-4, 1e4):
            scaled = [statistics(scale * s.mean, scale**2 * s.var) for s in (a, b)]
            torch.testing.assert_close(channel_divergence(*scaled), found)
        shifted = [statistics(s.mean + 3, s.var) for s in (a, b)]
        torch.testing.assert_close(channel_divergence(*shifted), found)

    @pytest.mark.parametrize("value", [0.0, 0.37, -1e4])
    def test_a_channel_dead_in_both_domains_is_no_difference(self, value: float) -> None:
        a = statistics([value], [0.0])
        assert channel_divergence(a, a).tolist() == [0.0]
        # float32 means of one constant differ in their last digit, depending on the map's size
        b = statistics([value * (1 + 1e-8)], [(value * 1e-8) ** 2])
        assert float(channel_divergence(a, b)) < 1e-3

    @pytest.mark.parametrize("eps", [1e-1, 1e-3, 1e-6])
    def test_a_channel_constant_in_one_domain_is_bounded_by_eps(self, eps: float) -> None:
        dead = statistics([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
        other = statistics([0.0, 2.0, 2.0], [1.0, 0.0, 1.0])
        found = channel_divergence(dead, other, eps=eps)
        assert found.isfinite().all() and (found > 0.5 / eps).all() and (found <= 4 / eps).all()
        assert float(found[1]) == pytest.approx(4 / eps)

    def test_near_constant_names_the_channels_that_eps_decides(self) -> None:
        #                  ordinary, dead in one, dead in both, one constant, two constants
        a = statistics([0.0, 0.0, 0.0, 0.37, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0])
        b = statistics([1.0, 0.1, 0.0, 0.37, 2.0], [9.0, 0.1, 0.0, 0.0, 0.0])
        assert near_constant(a, b).tolist() == [False, True, False, False, True]
        small, large = (channel_divergence(a, b, eps=eps) for eps in (1e-4, 1e-2))
        assert ((small - large).abs() > 1e-9).tolist() == near_constant(a, b).tolist()

    def test_eps_leaves_ordinary_channels_alone(self) -> None:
        a, b = statistics([0.0], [1.0]), statistics([3.0], [100.0])
        expected = symmetric_kl(0, 3, 1, 100)
        for eps in (1e-3, 1e-9):
            assert float(channel_divergence(a, b, eps=eps)) == pytest.approx(expected)

    def test_refuses_what_cannot_be_compared(self) -> None:
        a = statistics([0.0], [1.0])
        with pytest.raises(ValueError, match=r"same channels.*1 and 2"):
            channel_divergence(a, statistics([0.0, 1.0], [1.0, 1.0]))
        with pytest.raises(ValueError, match="two or more in each domain, got 100 and 1"):
            channel_divergence(a, statistics([0.0], [0.0], count=1))
        with pytest.raises(ValueError, match="eps must be above 0"):
            channel_divergence(a, a, eps=0.0)
        with pytest.raises(ValueError, match=r"same layers.*'y'"):
            divergence({"x": a}, {"x": a, "y": a})

    @pytest.mark.parametrize(("count_a", "count_b"), [(8, 8), (10, 50), (200, 300)])
    def test_by_chance(self, count_a: int, count_b: int) -> None:
        channels = 40_000 if count_a < 100 else 10_000
        a, b = (ChannelStatistics.of(torch.randn(n, channels)) for n in (count_a, count_b))
        expected = divergence_by_chance(count_a, count_b)
        assert float(channel_divergence(a, b).mean()) == pytest.approx(expected, rel=0.06)
        assert expected == pytest.approx(2 / count_a + 2 / count_b, rel=16 / count_a)

    def test_by_chance_of_few_images(self) -> None:
        assert divergence_by_chance(3, 100) == math.inf


class TestStatistics:
    @pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 1, 3), (2, 0, 5)])
    def test_streamed_equals_whole(self, sizes: tuple[int, ...]) -> None:
        x = torch.randn(7, 3, 5, 4) + 10
        found = feature_statistics(nn.ReLU(), x.split(sizes), [""])[""]
        table = x.double().clamp(min=0).mean((2, 3))
        assert found.count == 7 and found.mean.dtype == found.var.dtype == torch.float64
        torch.testing.assert_close(found.mean, table.mean(0), rtol=1e-6, atol=0)
        torch.testing.assert_close(found.var, table.var(0, correction=0), rtol=1e-4, atol=0)

    def test_no_cancellation_far_from_zero(self) -> None:
        values = 1e8 + torch.randn(1000, 2).double()
        found = ChannelStatistics.of(values[:1])
        for part in values[1:].split(7):
            found = found.merged(ChannelStatistics.of(part))
        torch.testing.assert_close(found.var, values.var(0, correction=0), rtol=1e-6, atol=0)

    def test_every_layer_against_a_plain_forward(self) -> None:
        net = create_model("resnet18_ibn_b", num_classes=0).eval()
        x = torch.randn(5, 3, 32, 32)
        with torch.no_grad():
            y = F.relu(net.bn1(net.conv1(x)))
            expected = {"stem": y}
            y = net.maxpool(y)
            for stage in range(1, 5):
                for index, block in enumerate(getattr(net, f"layer{stage}")):
                    y = block(y)
                    expected[f"layer{stage}.{index}"] = y
        found = feature_statistics(net, x.split(2))
        assert list(found) == list(expected)
        for name, feature in expected.items():
            table = feature.double().mean((2, 3))
            torch.testing.assert_close(found[name].mean, table.mean(0), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(
                found[name].var, table.var(0, correction=0), rtol=1e-3, atol=1e-9
            )

    def test_a_network_of_instance_norms_ignores_contrast(self) -> None:
        """What the figure is for: IBN-b's divergence of images and darker ones is (next to) 0."""
        x = 50 * torch.rand(16, 3, 64, 64)  # far above the norm's eps
        for name, small in (("resnet18_ibn_b", True), ("resnet18", False)):
            torch.manual_seed(0)
            net = create_model(name, num_classes=0)
            a, b = (feature_statistics(net, scaled.split(8)) for scaled in (x, 0.5 * x))
            found = divergence(a, b)
            assert (max(found.values()) < 1e-3) is small, found
            assert (found["stem"] > 1) is not small

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_other_precisions(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        x = torch.randn(20, 3, 16, 16)
        expected = feature_statistics(net, [x], ["1"])["1"]
        found = feature_statistics(net.to(dtype), [x], ["1"])["1"]
        assert found.mean.dtype == torch.float64
        tolerance = 1e-5 if dtype == torch.float64 else 0.02
        assert float(channel_divergence(found, expected).max()) < tolerance

    def test_autocast_and_channels_last(self) -> None:
        net = create_model("resnet18", num_classes=0)
        x = torch.randn(6, 3, 32, 32)
        expected = feature_statistics(net, [x])
        with torch.autocast("cpu", torch.bfloat16):
            found = feature_statistics(net, [x.to(memory_format=torch.channels_last)])
        for name, value in expected.items():
            torch.testing.assert_close(found[name].mean, value.mean, rtol=0.05, atol=0.02)

    def test_the_network_is_left_as_it_was(self) -> None:
        net = create_model("resnet18", num_classes=0, frozen_stages=1).train()
        modes = [m.training for m in net.modules()]
        state = {k: v.clone() for k, v in net.state_dict().items()}
        feature_statistics(net, torch.randn(4, 3, 32, 32).split(2))
        assert [m.training for m in net.modules()] == modes and net.training
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())

        def broken() -> object:
            yield torch.randn(2, 3, 32, 32)
            raise RuntimeError("no more data")

        with pytest.raises(RuntimeError, match="no more data"):
            feature_statistics(net, broken())
        assert [m.training for m in net.modules()] == modes
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())

    def test_names_inputs_and_order(self) -> None:
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
        x = torch.randn(3, 3, 2, 2)
        found = feature_statistics(net, [x], {"logits": "3", "image": "0:input", "convolved": "0"})
        assert list(found) == ["logits", "image", "convolved"]
        assert [len(s.mean) for s in found.values()] == [5, 3, 4]
        torch.testing.assert_close(found["image"].mean, x.double().mean((0, 2, 3)))


class TestErrors:
    def test_images(self) -> None:
        net = nn.Conv2d(3, 4, 1)
        for batches in ([], [torch.randn(1, 3, 2, 2)], [torch.randn(0, 3, 2, 2)]):
            with pytest.raises(ValueError, match="two images or more"):
                feature_statistics(net, batches, [""])
        with pytest.raises(TypeError, match=r"float tensors.*got torch\.uint8"):
            feature_statistics(net, [torch.zeros(2, 3, 2, 2, dtype=torch.uint8)], [""])
        with pytest.raises(TypeError, match="got list"):
            feature_statistics(net, [[1, 2]], [""])

    def test_layers(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.relu, self.unused, self.pair = nn.ReLU(), nn.ReLU(), Pair()

            def forward(self, x: Tensor) -> Tensor:
                return self.relu(self.pair(self.relu(x))[0])

        class Pair(nn.Module):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                return x.flatten(0, 1), x

        x = [torch.randn(2, 3, 4, 4)]
        with pytest.raises(ValueError, match=r"no module 'layer9'"):
            feature_statistics(Net(), x, ["layer9"])
        with pytest.raises(ValueError, match=r"no blocks named.*relu, unused, pair"):
            feature_statistics(Net(), x)
        with pytest.raises(ValueError, match="'relu' ran 2 times"):
            feature_statistics(Net(), x, ["relu"])
        with pytest.raises(ValueError, match="'unused' ran 0 times"):
            feature_statistics(Net(), x, ["unused"])
        with pytest.raises(TypeError, match=r"'pair'.*got a tuple"):
            feature_statistics(Net(), x, ["pair"])
        with pytest.raises(ValueError, match="names no layer"):
            feature_statistics(Net(), x, [])

    def test_features_that_are_not_finite(self) -> None:
        net = nn.Sequential(nn.Conv2d(3, 4, 1))
        with pytest.raises(ValueError, match="'0' has features that are not finite"):
            feature_statistics(net, [torch.full((2, 3, 4, 4), math.inf)], ["0"])

    def test_the_first_dimension_is_the_image(self) -> None:
        net = nn.Sequential(nn.Flatten(0, 1), nn.ReLU())
        with pytest.raises(ValueError, match="gave 6 features for 2 images"):
            feature_statistics(net, [torch.randn(2, 3, 4, 4)], ["1"])


class TestDefaultLayers:
    def test_resnet50_has_seventeen(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            layers = default_layers(create_model("resnet50", num_classes=0))
        assert len(layers) == 17
        assert list(layers)[:2] == ["stem", "layer1.0"] and list(layers)[-1] == "layer4.2"
        assert layers["stem"] == "maxpool:input"

    def test_under_a_prefix_and_without_pooling(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, 4, 3)
                self.layer1 = nn.Sequential(nn.ReLU(), nn.ReLU())
                self.layer2 = nn.Sequential(nn.Sequential(nn.ReLU()))

            def forward(self, x: Tensor) -> Tensor:
                return self.layer2(self.layer1(self.stem(x)))

        layers = default_layers(nn.ModuleDict({"backbone": Net()}))
        assert layers == {
            "backbone.stem": "backbone.layer1:input",
            "backbone.layer1.0": "backbone.layer1.0",
            "backbone.layer1.1": "backbone.layer1.1",
            "backbone.layer2.0": "backbone.layer2.0",
        }
        assert [s.count for s in feature_statistics(Net(), [torch.randn(3, 3, 8, 8)]).values()] == (
            [3] * 4
        )

    def test_dense_blocks(self) -> None:
        features = nn.Sequential()
        for name in ("conv0", "denseblock1", "transition1", "denseblock2"):
            features.add_module(name, nn.Sequential(nn.Conv2d(3, 3, 1)))
        layers = default_layers(nn.ModuleDict({"features": features}))
        assert layers == {
            "features.stem": "features.denseblock1:input",
            "features.denseblock1": "features.denseblock1",
            "features.denseblock2": "features.denseblock2",
        }
