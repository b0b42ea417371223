"""Networks of torchvision and timm by name: the library's own to the last bit, stepping by a scheme."""

from __future__ import annotations

import copy
import importlib
import io
import pickle
import socket
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odenas.nets import coefficients, parameters, rewire, rewired
from odenas.nets.backbones import LIBRARIES, check_form, given_network, is_given, source_of
from odenas.nets.stepper import stepper_of
from odenas.space import OdenasError, Scheme, scheme

RESNET = "torchvision:resnet18"
NAMES = [RESNET, "timm:test_vit", "timm:test_convnext"]
CLASSES = 5
LM = scheme("lm", sharing="step")
STILL = scheme("lm", k=0, spread=0.0)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def made(name: str, value: Scheme, channels: int = 3, seed: int = 0, size: int = 32) -> Any:
    pytest.importorskip(name.partition(":")[0])
    torch.manual_seed(seed)
    return given_network(name, value, CLASSES, channels, size)


def original(name: str, seed: int = 0) -> Any:
    """Return the network as the library makes it."""
    library, _, entry = name.partition(":")
    pytest.importorskip(library)
    torch.manual_seed(seed)
    if library == "timm":
        sized = {"img_size": 32} if "vit" in entry else {}
        return importlib.import_module("timm").create_model(entry, num_classes=CLASSES, **sized)
    return importlib.import_module("torchvision").models.get_model(entry, num_classes=CLASSES)


def images(channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def outputs(network: nn.Module, x: Tensor, training: bool) -> Any:
    torch.manual_seed(2)
    with torch.no_grad():
        return network.train(training)(x)


@pytest.mark.parametrize("value", [scheme("euler"), STILL], ids=["euler", "k = 0"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_librarys_network_to_the_last_bit(name: str, value: Scheme) -> None:
    network, wanted = made(name, value), original(name)
    assert "rewired" in dict(rewired(network)).values()
    state = network.state_dict()
    assert [entry for entry in state if not entry.startswith("rewiring.")] == list(wanted.state_dict())
    assert all(torch.equal(state[entry], tensor) for entry, tensor in wanted.state_dict().items())
    for training in (False, True):
        assert torch.equal(outputs(network, images(), training), outputs(wanted, images(), training))


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_a_scheme_and_its_twin_the_same_weights(name: str) -> None:
    first, twin, other = made(name, LM), made(name, LM.twin()), made(name, LM, seed=1)
    shared = dict(twin.named_parameters())
    learned = {entry for entry, _ in first.named_parameters()} - set(shared)
    assert learned
    assert all(entry.startswith("rewiring.weights.") for entry in learned)
    assert all(torch.equal(first.get_parameter(entry), tensor) for entry, tensor in shared.items())
    assert parameters(first) - parameters(twin) == sum(first.get_parameter(entry).numel() for entry in learned)
    assert all(torch.equal(first.get_parameter(entry), made(name, LM).get_parameter(entry)) for entry in learned)
    assert not all(torch.equal(first.get_parameter(entry), other.get_parameter(entry)) for entry in learned)
    assert not torch.equal(outputs(first, images(), False), outputs(twin, images(), False))


@pytest.mark.parametrize("name", NAMES)
def test_grey_images_are_taken(name: str) -> None:
    network, grey = made(name, LM, channels=1), images(1)
    wanted = outputs(network, grey, False)
    assert wanted.shape == (2, CLASSES)
    fresh = made(name, LM, channels=1, seed=3)
    fresh.load_state_dict(network.state_dict())
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    copies = {
        "state": fresh,
        "copy": copy.deepcopy(network),
        "pickle": pickle.loads(pickle.dumps(network)),
        "file": torch.load(file, weights_only=False),
    }
    for label, other in copies.items():
        assert torch.equal(outputs(other, grey, False), wanted), label
    last = network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        outputs(last, grey.contiguous(memory_format=torch.channels_last), False), wanted, rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_a_compiled_network_takes_grey_images() -> None:
    network, grey = made(RESNET, LM, channels=1), images(1)
    compiled: Any = torch.compile(network, backend="eager")
    torch.testing.assert_close(outputs(compiled, grey, False), outputs(network, grey, False))


def test_torchvision_sees_a_grey_channel_thrice() -> None:
    colour, grey = made(RESNET, LM), made(RESNET, LM, channels=1)
    assert list(colour.state_dict()) == list(grey.state_dict())
    assert torch.equal(outputs(grey, images(1), False), outputs(colour, images(1).repeat(1, 3, 1, 1), False))
    with pytest.raises(OdenasError, match="`channels` is 2, but must be 1 or 3"):
        given_network(RESNET, LM, channels=2)


def test_timm_has_a_first_layer_for_grey_images() -> None:
    network = made("timm:test_convnext", LM, channels=1)
    assert next(module for module in network.modules() if isinstance(module, nn.Conv2d)).in_channels == 1


def test_a_vision_transformer_is_made_for_the_size_of_the_images() -> None:
    for size, tokens in ((32, 4), (64, 16)):
        network = made("timm:test_vit", LM, size=size)
        assert network.pos_embed.shape[1] - network.num_prefix_tokens == tokens
        assert outputs(network, images(size=size), False).shape == (2, CLASSES)
    with torch.device("meta"):
        large: Any = given_network("torchvision:vit_b_16", LM, CLASSES, size=32)
    assert large.encoder.pos_embedding.shape[1] == 4 + 1


def test_the_stepper_says_what_the_network_is() -> None:
    network = made(RESNET, LM, channels=1)
    assert stepper_of(network).scheme == LM
    assert stepper_of(network).architecture == {
        "widths": [64, 128, 256, 512], "branches": [[1, 1]] * 4, "backbone": RESNET, "classes": CLASSES, "channels": 1,
    }  # fmt: skip
    plain: Any = nn.Linear(1, 1)
    assert stepper_of(plain) is plain


@pytest.mark.parametrize("sharing", ["shared", "step", "channel"])
@pytest.mark.parametrize(("name", "own"), [(RESNET, [1] * 4), ("timm:test_vit", None)])
def test_the_learned_coefficients_are_listed(name: str, own: list[int] | None, sharing: str) -> None:
    """Each is what its own step does to the state before: read from the network's output, not from its parameters."""
    network = made(name, scheme("lm", sharing=sharing))
    widths = stepper_of(network).architecture["widths"]
    steps = own or [2 * len(network.blocks) - 1]
    rows = coefficients(network, varying_only=True)
    each = [width if sharing == "channel" else 1 for width in widths]
    assert len(rows) == 2 * sum(count * width for count, width in zip(steps, each, strict=True))
    assert {(row["stage"], row["block"]) for row in rows} == {
        (stage, 1 + index) for stage, count in enumerate(steps) for index in range(count)
    }
    found = {(row["stage"], row["block"], row["channel"], row["symbol"], row["index"]): row["value"] for row in rows}
    for (stage, block, channel, symbol, index), value in found.items():
        assert (symbol, index) in {("V", 0), ("V", 1)}
        assert found[stage, block, channel, "V", 0] == pytest.approx(
            1 - found[stage, block, channel, "V", 1], abs=1e-12
        )
        assert abs(value) < 2.0
    with torch.no_grad():
        for parameter in network.rewiring.parameters():
            parameter.fill_(0.25)
    assert {row["value"] for row in coefficients(network, varying_only=True)} == {0.25, 0.75}
    assert len(coefficients(network)) > len(rows)


def test_a_coefficient_is_the_weight_of_the_state_before() -> None:
    """In evaluation, with the second block's branch made 0, the state is φ((1 − k) x_1 + k x_0)."""
    network = made(RESNET, LM).eval()
    with torch.no_grad():
        network.layer1[1].bn2.weight.zero_()
    seen: dict[str, Tensor] = {}
    network.maxpool.register_forward_hook(lambda _, given, output: seen.update(x0=output))
    network.layer1[0].register_forward_hook(lambda _, given, output: seen.update(x1=output))
    network.layer1[1].register_forward_hook(lambda _, given, output: seen.update(x2=output))
    with torch.no_grad():
        network(images())
    (k,) = [row["value"] for row in coefficients(network) if (row["stage"], row["symbol"], row["index"]) == (0, "V", 1)]
    assert k != 0
    torch.testing.assert_close(seen["x2"], torch.relu((1 - k) * seen["x1"] + k * seen["x0"]))


def test_fixed_coefficients_are_those_of_the_scheme() -> None:
    rows = coefficients(made(RESNET, scheme("ab2")))
    first = {(row["symbol"], row["index"]): row["value"] for row in rows if row["stage"] == 0}
    assert first == {("V", 0): 1.0, ("V", 1): 0.0, ("R", 0): -0.5, ("B", 0): 1.5}
    assert coefficients(made(RESNET, scheme("ab2")), varying_only=True) == []
    assert coefficients(rewire(original(RESNET), scheme("ab2"))) == rows


WRONG = [
    ("resnet18", "but must be torchvision:NAME or timm:NAME"),
    ("torchvison:resnet18", r"did you mean 'torchvision:resnet18'\?"),
    ("torchvision:", r"must be torchvision:NAME or timm:NAME"),
    ("torchvision:resnet81", r"torchvision lists no classifier of that name; did you mean 'torchvision:resnet18'\?"),
    ("torchvision:fcn_resnet50", r"lists no classifier of that name; did you mean 'torchvision:resnet50'\?"),
    ("torchvision:models.resnet18", "lists no classifier of that name"),
    ("os:system", "but must be torchvision:NAME or timm:NAME"),
    ("timm:resnet18.a1_in1k", r"timm lists no classifier of that name; did you mean 'timm:resnet18'\?"),
    ("timm:hf_hub:timm/resnet18.a1_in1k", "lists no classifier of that name"),
]


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_an_unknown_name_is_told_in_one_line(name: str, message: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    for ask in (partial(given_network, scheme=LM), source_of):
        with pytest.raises(OdenasError, match=message) as caught:
            ask(name)
        assert str(caught.value).startswith(f"`backbone` is {name!r}, but ")
        assert "\n" not in str(caught.value)


def test_a_missing_library_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    check_form("timm:resnet18")
    with pytest.raises(
        OdenasError, match=r"is 'timm:resnet18', but timm is not installed: pip install 'odenas\[timm\]'$"
    ):
        given_network("timm:resnet18", LM)


def test_what_cannot_be_rewired_or_stepped_by_is_refused() -> None:
    with pytest.raises(OdenasError, match="`model` is a SqueezeNet with no block to rewire"):
        given_network("torchvision:squeezenet1_1", LM)
    with pytest.raises(OdenasError, match="`tying` is 'none' with 4 stage"):
        given_network(RESNET, replace(scheme("rk4"), tying="none"))


def test_the_code_of_a_network_is_known() -> None:
    assert [is_given(name) for name in ("residual", "dense", *NAMES)] == [False, False, True, True, True]
    assert source_of(RESNET) == "torchvision.models.resnet"
    assert source_of("torchvision:vit_b_16") == "torchvision.models.vision_transformer"
    pytest.importorskip("timm")
    assert source_of("timm:test_vit") == "timm.models.vision_transformer"
    assert set(LIBRARIES) == {"torchvision", "timm"}
