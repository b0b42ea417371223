"""What a network cannot be made of is refused in one line, on every backbone, and nothing asked for is passed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from odenas.nets import build, export, parameters, rewire
from odenas.space import Blocks, OdenasError, scheme
from odenas.space.stochasticity import Stochasticity

FRACTAL = scheme("fractal", columns=2)


@pytest.mark.parametrize("backbone", ["residual", "dense", "multigrid", "fractal"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": None}, "`width` is None, but must be an integer"),
        ({"width": [4, None, 8]}, "`width` is None, but must be an integer"),
        ({"width": []}, "`width` has no numbers"),
        ({"width": -3}, "`width` is -3, but must be at least 1"),
        ({"classes": None}, "`classes` is None, but must be an integer"),
        ({"channels": 0}, "`channels` is 0, but must be at least 1"),
        ({"params": 10**14}, "`params` is 100000000000000, but must be at most"),
        ({"scheme": "euler"}, "`scheme` is 'euler', but must be a Scheme"),
        ({"scheme": None}, "`scheme` is None, but must be a Scheme"),
    ],
    ids=str,
)
def test_arguments(backbone: str, options: dict[str, Any], message: str) -> None:
    value = FRACTAL if backbone == "fractal" else scheme("euler")
    with pytest.raises(OdenasError) as caught:
        build(**{"scheme": value, "backbone": backbone, **options})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    network = build(scheme("euler"), depth=np.int64(8), width=np.array([2, 3, 4]))  # type: ignore[arg-type]
    assert network.architecture["widths"] == [2, 3, 4]


@pytest.mark.parametrize(
    ("value", "options", "field"),
    [
        (replace(FRACTAL, blocks=Blocks("bottleneck")), {}, "blocks"),
        (replace(FRACTAL, blocks=Blocks(activation="gelu")), {}, "blocks"),
        (replace(FRACTAL, tying="stages"), {}, "tying"),
        (replace(FRACTAL, start="copy"), {}, "start"),
        (FRACTAL, {"reversible": True}, "reversible"),
        (FRACTAL, {"stem": "imagenet"}, "stem"),
        (FRACTAL, {"stem_width": 5}, "stem_width"),
        (FRACTAL, {"width": [4, 8], "params": 50_000}, "width"),
        (replace(FRACTAL, stochasticity=Stochasticity("depth", 0.3)), {}, "growth"),
        (replace(FRACTAL, stochasticity=Stochasticity("depth", 0.3, "constant", "image")), {}, "stochasticity"),
    ],
)
def test_a_fractal_network_passes_nothing_over(value: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(OdenasError, match=rf"^`{field}` [^\n]*$"):
        build(value, backbone="fractal", **options)


@pytest.mark.parametrize("options", [{"inner": 2.0}, {"shortcut": "pool"}])
def test_nor_does_a_multigrid_network(options: dict[str, Any]) -> None:
    (field,) = options
    with pytest.raises(OdenasError, match=rf"^`{field}` [^\n]*$"):
        build(replace(scheme("euler"), blocks=Blocks("basic", **options)), backbone="multigrid")


def test_a_width_beside_a_budget_must_fit_and_images_have_one_already() -> None:
    with pytest.raises(OdenasError, match=r"^`width` has 2 numbers, but needs one, or 3"):
        build(scheme("euler"), width=[1, 2], params=10_000)
    with pytest.raises(OdenasError, match=r"^`params` is given, but with the stem 'identity'"):
        build(scheme("euler"), backbone="dense", stem="identity", params=10_000)


@pytest.mark.parametrize("params", [5_000, 20_000, 100_000, 1_000_000])
def test_a_fractal_network_meets_its_budget(params: int) -> None:
    with torch.device("meta"):
        network = build(FRACTAL, backbone="fractal", params=params)
    assert abs(parameters(network) / params - 1) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5, 0.5]}, "`mean` has 2 numbers, but needs 3"),
        ({"std": [0.5]}, "`std` has 1 numbers, but needs 3"),
        ({"std": [0.5, 0, 0.5]}, r"`std` is \[0.5, 0.0, 0.5\], but deviations must be above 0"),
    ],
)
def test_what_an_export_cannot_write(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(OdenasError, match=f"^{message}"):
        export(build(scheme("euler"), 8, width=2), tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_what_is_nothing_to_export_or_rewire(tmp_path: Path) -> None:
    with pytest.raises(OdenasError, match=r"^`network` is a Linear, "):
        export(nn.Linear(2, 2), tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(OdenasError, match=r"^`network` has parameters of the type torch.float64"):
        export(build(scheme("euler"), 8, width=2).double(), tmp_path / "out")
    with pytest.raises(OdenasError, match=r"^`scheme` is 'lm'"):
        rewire(nn.Linear(2, 2), "lm")  # type: ignore[arg-type]
    with pytest.raises(OdenasError, match=r"^`model` is None"):
        rewire(None, scheme("lm"))  # type: ignore[type-var]


@pytest.mark.parametrize("name", ["symplectic_euler", "backward_euler"])
def test_second_derivatives_are_refused_and_not_wrong(name: str) -> None:
    blocks = Blocks("basic", "silu") if name == "symplectic_euler" else Blocks("symmetric", "charbonnier")
    value = replace(scheme(name), blocks=blocks)
    torch.manual_seed(0)
    network = build(value, 14, width=2, reversible=name == "symplectic_euler").double().eval()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with pytest.raises(RuntimeError, match="first derivatives alone"):
        torch.autograd.grad(network(x).tanh().sum(), own, create_graph=True, allow_unused=True)


@pytest.mark.parametrize("sharing", ["step", "channel"])
def test_learned_coefficients_have_gradients_of_single_images_too(sharing: str) -> None:
    torch.manual_seed(0)
    network = build(scheme("lm", sharing=sharing), 14, width=2, channels=1).double().eval()
    values = {name: parameter.detach() for name, parameter in network.named_parameters()}
    x, rest = torch.randn(3, 1, 6, 6, dtype=torch.float64), dict(network.named_buffers())

    def loss(parts: dict[str, Any], image: Any) -> Any:
        return torch.func.functional_call(network, (parts, rest), (image[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(values, x)
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(each[name].sum(0), parameter.grad, rtol=1e-8, atol=1e-10)
