"""Networks of torchvision and timm that step by a scheme: the same to the last bit where the scheme is Euler's."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import convnext, densenet, regnet, resnet, vision_transformer

from odenas.nets import rewire, rewired
from odenas.nets.backbone_blocks import RESIDUALS, kind
from odenas.space import Coefficients, OdenasError, Scheme, Stochasticity, Tableau, scheme


def convnet(block: Any, layers: list[int], **given: Any) -> nn.Module:
    made: nn.Module = resnet.ResNet(block, layers, num_classes=3, **given)
    return made


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: convnet(resnet.BasicBlock, [3, 2, 1, 1]),
    "resnext": lambda: convnet(resnet.Bottleneck, [3, 2, 1, 1], groups=2, width_per_group=8),
    "regnet": lambda: regnet.RegNet(
        regnet.BlockParams([3, 2], [8, 16], [4, 8], [1.0, 1.0], [2, 2], 0.25), num_classes=3, stem_width=8
    ),
    "convnext": lambda: convnext.ConvNeXt(
        [convnext.CNBlockConfig(8, 12, 3), convnext.CNBlockConfig(12, None, 2)], 0.5, layer_scale=0.5, num_classes=3
    ),
    "transformer": lambda: vision_transformer.VisionTransformer(32, 8, 3, 2, 12, 24, dropout=0.2, num_classes=3),
}


def timm_network(name: str) -> nn.Module:
    """Return a small network of timm, with stochastic depth."""
    models = pytest.importorskip("timm.models")
    if name in ("BasicBlock", "Bottleneck"):
        made = models.resnet.ResNet(
            getattr(models.resnet, name), (3, 2, 1, 1), 3, channels=(8, 16, 16, 16), stem_width=8, drop_path_rate=0.3,
            block_args={"attn_layer": "se"},
        )  # fmt: skip
    elif name == "regnet":
        made = models.regnet.RegNet(
            models.regnet.RegNetCfg(depth=10, w0=8, wa=8, wm=2, group_size=4, stem_width=8, se_ratio=0.25),
            num_classes=3,
            drop_path_rate=0.3,
        )  # fmt: skip
    elif name.startswith("convnext"):
        made = models.convnext.ConvNeXt(
            num_classes=3, depths=(3, 2, 1, 1), dims=(8, 12, 12, 12), conv_mlp="conv" in name[8:], ls_init_value=0.5,
            drop_path_rate=0.3,
        )  # fmt: skip
    else:
        made = models.vision_transformer.VisionTransformer(
            32, 8, num_classes=3, embed_dim=12, depth=3, num_heads=2, init_values=0.5, drop_path_rate=0.3
        )
    return made  # type: ignore[no-any-return]


TIMM = ["BasicBlock", "Bottleneck", "regnet", "convnext", "convnext conv", "transformer"]


@cache
def original(name: str) -> Any:
    """Return a network in which nothing has the value it starts with."""
    torch.manual_seed(0)
    network = TORCHVISION[name]() if name in TORCHVISION else timm_network(name.removeprefix("timm "))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def fresh(name: str) -> Any:
    return copy.deepcopy(original(name))


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


def outputs(network: nn.Module, x: Tensor, training: bool) -> Any:
    torch.manual_seed(2)
    return network.train(training)(x)


def learned(sharing: str, constraint: str) -> Scheme:
    """Return a learned two-step scheme that starts as forward Euler: k = 0, without spread."""
    lm = scheme("lm", k=0, spread=0.0, sharing=sharing)
    return replace(lm, coefficients=replace(lm.coefficients, constraint=constraint))


PLAIN: dict[str, Scheme] = {"euler": scheme("euler")} | {
    f"lm, {sharing}, {constraint}": learned(sharing, constraint)
    for sharing, constraint in (("shared", "none"), ("step", "zero-stable"), ("channel", "none"), ("step", "order"))
}


@pytest.mark.parametrize("name", [*TORCHVISION, *(f"timm {name}" for name in TIMM)])
def test_euler_and_k_of_zero_change_no_bit(name: str) -> None:
    """Outputs and running statistics, in evaluation and in training with its dropped paths; gradients to rounding."""
    x, wanted = images(), {}
    for training in (False, True):
        network = fresh(name)
        wanted[training] = (outputs(network, x, training), network)
    wanted[True][0].square().sum().backward()
    for label, value in PLAIN.items():
        network = rewire(fresh(name), value)
        assert "rewired" in dict(rewired(network)).values()
        for training in (False, True):
            result = outputs(network, x, training)
            assert torch.equal(result, wanted[training][0]), (label, training)
        result.square().sum().backward()
        state = network.state_dict()
        for key, tensor in wanted[True][1].state_dict().items():
            assert torch.equal(state[key], tensor), (label, key)
        for key, parameter in wanted[True][1].named_parameters():
            torch.testing.assert_close(network.get_parameter(key).grad, parameter.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*TORCHVISION, *(f"timm {name}" for name in TIMM)])
def test_another_scheme_gives_another_network_that_keeps_all_names(name: str) -> None:
    network, before = fresh(name), original(name)
    changed = rewire(network, scheme("lm", k="-1/3"))
    assert changed is network
    assert type(network) is type(before)
    assert [key for key in network.state_dict() if not key.startswith("rewiring.")] == list(before.state_dict())
    assert all(kind(module) == kind(before.get_submodule(path)) for path, module in network.named_modules()
               if not path.startswith("rewiring"))  # fmt: skip
    assert not torch.allclose(outputs(network, images(), False), outputs(fresh(name), images(), False), rtol=1e-3)


def test_every_row_is_one_of_these_networks() -> None:
    seen = {kind(module) for name in TORCHVISION for module in original(name).modules()}
    assert {row for row in RESIDUALS if row.startswith("torchvision.")} <= seen


def test_every_row_of_timm_is_one_of_these_networks() -> None:
    seen = {kind(module) for name in TIMM for module in original(f"timm {name}").modules()}
    assert {row for row in RESIDUALS if row.startswith("timm.")} <= seen


MULTISTEP: dict[str, Scheme] = {
    "lm": scheme("lm", k="-1/4", spread=0.0),
    "two_step": scheme("two_step"),
    "ab2": scheme("ab2"),
    "ab3": scheme("ab3"),
    "nystrom3": scheme("nystrom3"),
    "momentum": scheme("momentum", gamma="3/5"),
    "ab3, copied": replace(scheme("ab3"), start="copy"),
}


@pytest.mark.parametrize("label", MULTISTEP)
def test_a_resnet_steps_as_written_out(label: str) -> None:
    """x_{n+1} = relu(Σ V_j x_{n−j} + Σ β_j F_{n−j}), with F_n taken from the block itself by a hook."""
    value = MULTISTEP[label]
    torch.manual_seed(3)
    network: Any = convnet(resnet.BasicBlock, [4, 3, 1, 2]).double().eval()
    x = images(torch.float64)
    stem = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    applied: Any = value.applied
    V, beta = [float(v) for v in applied.V], [float(sum(applied.B)), *map(float, applied.R)]
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        states: list[Tensor] = []
        slopes: list[Tensor] = []
        for i, block in enumerate(layer):
            before = stem if block.downsample is None else block.downsample(stem)
            states, slopes = [before, *states], [slope(block, stem), *slopes]
            if i == 0 or (value.start == "euler" and len(states) < len(V)):
                stem = (states[0] + slopes[0]).relu()
            else:
                past = slopes if value.start == "euler" else slopes + slopes[-1:] * len(beta)
                terms = [*zip(V, states, strict=False), *zip(beta, past, strict=False)]
                stem = torch.stack([weight * term for weight, term in terms]).sum(0).relu()
            if i == 0 and value.start == "copy":
                states, slopes = [stem] * (len(V) - 1), []
    wanted = network.fc(network.avgpool(stem).flatten(1))
    torch.testing.assert_close(rewire(network, value)(x), wanted, rtol=1e-10, atol=1e-10)


def slope(block: Any, x: Tensor) -> Tensor:
    """Return what a basic block adds to its shortcut."""
    caught: list[Tensor] = []
    handle = block.bn2.register_forward_hook(lambda module, given, output: caught.append(output.clone()))
    block(x)
    handle.remove()
    return caught[0]


def test_a_transformer_makes_two_steps_in_each_block() -> None:
    network = fresh("transformer").double().eval()
    k, x = -0.25, images(torch.float64)
    tokens = network._process_input(x)
    tokens = torch.cat([network.class_token.expand(2, -1, -1), tokens], 1) + network.encoder.pos_embedding
    states = [tokens]
    for block in network.encoder.layers:
        for branch in ("attention", "mlp"):
            x_n, *earlier = states
            if branch == "attention":
                slope_n = block.self_attention(*[block.ln_1(x_n)] * 3)[0]
            else:
                slope_n = block.mlp(block.ln_2(x_n))
            states = [((1 - k) * x_n + k * earlier[0] if earlier else x_n) + slope_n, *states]
    wanted = network.heads(network.encoder.ln(states[0])[:, 0])
    made = rewire(network, scheme("lm", k="-1/4", spread=0.0, sharing="channel"))
    torch.testing.assert_close(made(x), wanted, rtol=1e-10, atol=1e-10)
    assert made.rewiring.weights.coordinates[0].shape == (1, 5, 12)


def test_tied_stages_evaluate_a_block_again() -> None:
    """Heun's method of two stages in a ConvNeXt: x + (f(x) + f(x + f(x))) / 2, after the first block of a stage."""
    network = fresh("convnext").double().eval()
    x = wanted = network.features[0](images(torch.float64))
    for block in network.features[1]:
        f = block.layer_scale * block.block(wanted)
        again = block.layer_scale * block.block(wanted + f)
        wanted = wanted + (f if block is network.features[1][0] else (f + again) / 2)
    rewire(network, replace(scheme("heun2"), tying="stages"))
    torch.testing.assert_close(network.features[1](x), wanted, rtol=1e-12, atol=1e-12)


def test_a_dropped_branch_leaves_the_linear_part() -> None:
    """And the activation in place that follows does not overwrite the state before."""
    network = fresh("resnet")
    noise = Stochasticity("depth", 0.999, "constant")
    rewire(network, replace(scheme("euler"), stochasticity=noise)).train()
    x = torch.randn(2, 64, 8, 8).relu().requires_grad_()
    torch.manual_seed(0)  # all three are dropped
    y = network.layer1(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert not torch.equal(network.eval().layer1(x), x)


def test_a_network_becomes_an_lm_one_and_learns() -> None:
    """The k's get gradients, and a few steps lower the loss."""
    torch.manual_seed(0)
    network: Any = rewire(fresh("regnet"), learned("step", "zero-stable")).train()
    labels = torch.tensor([0, 2])
    optimiser = torch.optim.SGD(network.parameters(), 0.003)
    losses = []
    for _ in range(6):
        loss: Any = nn.functional.cross_entropy(network(images()), labels)
        optimiser.zero_grad()
        loss.backward()
        assert all(each.grad.abs().min() > 0 for each in network.rewiring.weights.coordinates)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.1
    assert all(each.dtype == torch.float32 and each.abs().min() > 0 for each in network.rewiring.weights.coordinates)


def test_the_gradient_of_k_is_its_difference_quotient() -> None:
    network: Any = rewire(fresh("resnet"), scheme("lm", k="-1/5", sharing="step")).double().eval()
    x, k = images(torch.float64), network.rewiring.weights.coordinates[0]
    network(x).square().sum().backward()
    gradient = k.grad[0, 1].item()
    values = []
    with torch.no_grad():
        for shift in (1e-6, -2e-6):
            k[0, 1] += shift
            values.append(network(x).square().sum().item())
    assert gradient == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_hooks_still_work() -> None:
    """Those set before and after; what a block's hook returns is the state that the next block steps from."""
    network, seen = fresh("resnet"), []
    names = {module: path for path, module in network.named_modules()}

    def note(module: nn.Module, given: Any, output: Tensor) -> None:
        seen.append(names[module])

    for path in ("layer1.0", "layer1.1.bn2", "layer2.1"):
        network.get_submodule(path).register_forward_hook(note)
    rewire(network, scheme("two_step")).eval()
    network.layer1[2].register_forward_hook(note)
    network(images())
    assert seen == ["layer1.0", "layer1.1.bn2", "layer1.2", "layer2.1"]
    with torch.no_grad():
        x = torch.randn(2, 64, 8, 8)
        first = network.layer1[0](x)
    handle = network.layer1[0].register_forward_hook(lambda module, given, output: torch.zeros_like(output))
    caught: list[Tensor] = []
    network.layer1[1].register_forward_pre_hook(lambda module, given: caught.append(given[0]))
    network.layer1(x)
    handle.remove()
    assert first.any()
    assert not caught[0].any()


def test_a_copy_a_pickle_and_a_loaded_state_give_the_same() -> None:
    network = rewire(fresh("convnext"), scheme("lm")).eval()
    wanted = network(images())
    copied = copy.deepcopy(network)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    loaded = rewire(fresh("convnext"), scheme("lm")).eval()
    assert not torch.equal(loaded(images()), wanted)
    loaded.load_state_dict(network.state_dict())
    with torch.no_grad():  # the copies share nothing
        for parameter in network.parameters():
            parameter.zero_()
    for other in (copied, torch.load(file, weights_only=False), loaded):
        assert torch.equal(other(images()), wanted)


def test_a_forward_within_a_forward_and_one_that_failed_leave_history_alone() -> None:
    network: Any = rewire(fresh("resnet"), scheme("two_step")).eval()
    x, other = images(), torch.randn(1, 3, 32, 32)
    wanted = network(x)
    inner = network(other)
    results: list[Tensor] = []

    def nested(module: nn.Module, given: Any, output: Tensor) -> None:
        handle.remove()
        results.append(network(other))

    handle = network.layer1[1].bn1.register_forward_hook(nested)
    assert torch.equal(network(x), wanted)
    assert torch.equal(results[0], inner)

    def fail(module: nn.Module, given: Any, output: Tensor) -> None:
        raise RuntimeError("as asked")

    handle = network.layer1[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="as asked"):
        network(x)
    handle.remove()
    with pytest.raises(OdenasError, match=r"^`layer1\.2` is called alone or out of turn[^\n]*$"):
        network.layer1[2](torch.randn(2, 64, 8, 8))
    assert torch.equal(network(x), wanted)


def test_threads_do_not_share_history() -> None:
    network: Any = rewire(fresh("transformer"), scheme("ab2")).eval()
    batches = [torch.randn(1, 3, 32, 32) for _ in range(2)]
    wanted = [network(x) for x in batches]
    barrier = threading.Barrier(2, timeout=20)

    def wait(module: nn.Module, given: Any, output: Tensor) -> None:
        barrier.wait()

    network.encoder.layers[1].register_forward_hook(wait)
    results: dict[int, Tensor] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: network(batches[i])})) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[i], wanted[i]) for i in range(2))


def test_a_block_of_euler_can_be_called_alone_and_recomputed() -> None:
    network: Any = rewire(fresh("resnet"), scheme("euler")).eval()
    x = torch.randn(2, 64, 8, 8, requires_grad=True)
    y = torch.utils.checkpoint.checkpoint(network.layer1[1], x, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(y, original("resnet").eval().layer1[1](x))


def test_it_compiles_as_one_graph() -> None:
    network = rewire(fresh("regnet"), scheme("lm")).eval()
    compiled: Any = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), network(images()))


def test_what_is_not_rewired_is_named_with_its_path() -> None:
    network = fresh("resnet")
    rewire(network, scheme("ab3"))
    lack = "its stage has {} of the 3 residual branches that the scheme needs"
    assert rewired(network) == [
        *((f"layer1.{i}", "rewired") for i in range(3)),
        *((f"layer2.{i}", lack.format(2)) for i in range(2)),
        *((f"layer{i}.0", lack.format(1)) for i in (3, 4)),
    ]

    class Changed(resnet.BasicBlock):  # type: ignore[misc]
        pass

    network = fresh("resnet")
    network.layer1[1] = network.layer1[0]
    network.layer2 = nn.Sequential(*(Changed(64, 64) for _ in range(2)), nn.ReLU())
    network.layer3 = nn.Sequential(*(resnet.BasicBlock(64, 64) for _ in range(2)))
    network.layer3[1].forward = network.layer3[1].forward
    network.layer4 = nn.Sequential(*(resnet.BasicBlock(64, 64) for _ in range(2)))
    assert rewired(rewire(network, scheme("lm"))) == [
        ("layer1.0", "it is in the network 2 times"),
        ("layer1.2", "its stage has 1 of the 2 residual branches that the scheme needs"),
        ("layer2.0", f"{kind(network.layer2[0])} is not among the blocks that can be rewired"),
        ("layer2.1", f"{kind(network.layer2[0])} is not among the blocks that can be rewired"),
        ("layer3.0", "its stage has 1 of the 2 residual branches that the scheme needs"),
        ("layer3.1", "its forward is replaced already"),
        ("layer4.0", "rewired"),
        ("layer4.1", "rewired"),
    ]


def test_a_stage_ends_where_the_shape_changes_or_something_stands_between() -> None:
    """In one container as in containers of their own."""
    down = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))
    blocks = [resnet.BasicBlock(*given) for given in [(4, 4)] * 3 + [(4, 6, 2, down)] + [(6, 6)] * 4]
    pool = nn.MaxPool2d(2)
    apart = nn.Sequential(nn.Sequential(*blocks[:3]), nn.Sequential(*blocks[3:5]), pool, nn.Sequential(*blocks[5:]))
    whole = nn.Sequential(*blocks[:5], pool, *blocks[5:])
    x = torch.randn(2, 4, 16, 16)
    first, second = (rewire(copy.deepcopy(made), scheme("two_step")).eval() for made in (apart, whole))
    assert torch.equal(first(x), second(x))
    assert [path for path, _ in rewired(second)] == ["0", "1", "2", "3", "4", "6", "7", "8"]


def test_a_block_takes_what_else_its_forward_takes() -> None:
    network, before = fresh("timm transformer").eval(), original("timm transformer").eval()
    rewire(network, scheme("euler"))
    tokens, mask = torch.randn(2, 5, 12), torch.ones(5, 5).tril().bool()
    wanted = before.blocks[1](tokens, mask)
    assert torch.equal(network.blocks[1](tokens, mask), wanted)
    assert torch.equal(network.blocks[1](tokens, attn_mask=mask), wanted)
    assert not torch.equal(network.blocks[1](tokens), wanted)


def test_a_block_without_a_shortcut_is_left_alone() -> None:
    network = fresh("timm regnet").eval()
    network.s4.b2.downsample = None
    x = images()
    wanted = network(x)
    assert dict(rewired(rewire(network, scheme("euler"))))["s4.b2"] == "it has no shortcut"
    assert torch.equal(network(x), wanted)


REFUSED: dict[str, tuple[Callable[[], nn.Module], Scheme, str]] = {
    "no such block": (
        lambda: densenet.DenseNet(4, (2, 2), 8, num_classes=3),
        scheme("lm"),
        r"`model` is a DenseNet with no block to rewire \(features\.denseblock1: torchvision\.models\.densenet\.",
    ),
    "no block": (lambda: nn.Linear(2, 2), scheme("euler"), r"`model` is a Linear with no block to rewire \(no block\)"),
    "projection": (lambda: fresh("resnet"), replace(scheme("lm"), transition="project"), "`transition` is 'project'"),
    "stages": (lambda: fresh("resnet"), scheme("rk4"), r"`tying` is 'none' with 4 stage\(s\), .*: use 'stages'"),
    "tied steps": (lambda: fresh("resnet"), replace(scheme("lm"), tying="steps"), "`tying` is 'steps' .*: use 'none'"),
    "partitioned": (lambda: fresh("resnet"), scheme("stormer_verlet"), "`tableau` is a Partitioned"),
    "shake": (
        lambda: fresh("resnet"),
        replace(scheme("shake_shake"), tying="stages"),
        "`stochasticity` is 'shake'",
    ),
    "copied start": (
        lambda: fresh("resnet"),
        Scheme(Tableau(V=(1, 0), B=(1,), R=(0,), W=((1,),)), Coefficients(constraint="none"), start="copy"),
        "`start` is 'copy'",
    ),
    "twice": (lambda: rewire(fresh("resnet"), scheme("lm")), scheme("euler"), "has a `rewiring` already"),
}


@pytest.mark.parametrize("label", REFUSED)
def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(label: str) -> None:
    make, value, message = REFUSED[label]
    network = make()
    before = list(network.state_dict())
    with pytest.raises(OdenasError, match=message) as caught:
        rewire(network, value)
    assert "\n" not in str(caught.value)
    assert list(network.state_dict()) == before
    assert label == "twice" or not any("forward" in vars(module) for module in network.modules())


def test_stages_that_are_too_short_are_named() -> None:
    with pytest.raises(OdenasError, match=r"\(layer1\.0: its stage has 3 of the 4 .*; and 4 more\)$"):
        rewire(fresh("resnet"), scheme("ab4"))


def test_only_a_rewired_network_tells_its_blocks() -> None:
    with pytest.raises(OdenasError, match="not rewired; call `rewire` first"):
        rewired(original("resnet"))
