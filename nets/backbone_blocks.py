"""The residual blocks of torchvision's and timm's networks: how each evaluates its branches and joins them.

Each row says what the forward of that class does, read from torchvision 0.29 and timm 1.0, in the same order of
operations, so that x + f(x) is the block's own output to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Residual:
    """A block that computes x + f(x), or φ(x + f(x)), once for each of its branches f in turn.

    Args:
        branches: functions of the block, x, and what else its forward takes, in the order in which they are added.
        channels: function of the block: the channels of its output.
        shortcut: attribute that holds the module applied to x where the shape changes; None and Identity change none.
        activation: attribute that holds φ, the module applied after the addition.
        channels_last: whether the state is (…, channels), as a transformer's tokens are, not (batch, channels, …).
        joined: function of the block: whether it adds x at all.
    """

    branches: tuple[Callable[..., Tensor], ...]
    channels: Callable[[Any], int]
    shortcut: str | None = None
    activation: str | None = None
    channels_last: bool = False
    joined: Callable[[Any], bool] = lambda block: True

    def projects(self, block: nn.Module) -> bool:
        """Return whether the block's shortcut is no identity."""
        shortcut = getattr(block, self.shortcut) if self.shortcut else None
        return not (shortcut is None or isinstance(shortcut, nn.Identity))


def basic(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of torchvision's BasicBlock."""
    x = block.relu(block.bn1(block.conv1(x)))
    return block.bn2(block.conv2(x))  # type: ignore[no-any-return]


def bottleneck(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of torchvision's Bottleneck, ResNeXt's and the wide one included."""
    x = block.relu(block.bn1(block.conv1(x)))
    x = block.relu(block.bn2(block.conv2(x)))
    return block.bn3(block.conv3(x))  # type: ignore[no-any-return]


def convnext(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of torchvision's CNBlock: layer scale and stochastic depth are a part of f."""
    return block.stochastic_depth(block.layer_scale * block.block(x))  # type: ignore[no-any-return]


def attention(block: Any, x: Tensor) -> Tensor:
    """Return the first f(x) of torchvision's EncoderBlock."""
    x = block.ln_1(x)
    x, _ = block.self_attention(x, x, x, need_weights=False)
    return block.dropout(x)  # type: ignore[no-any-return]


def timm_basic(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of timm's BasicBlock."""
    x = block.aa(block.act1(block.drop_block(block.bn1(block.conv1(x)))))
    return timm_end(block, block.bn2(block.conv2(x)))


def timm_bottleneck(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of timm's Bottleneck of ResNet, ResNeXt and their kin."""
    x = block.act1(block.bn1(block.conv1(x)))
    x = block.aa(block.act2(block.drop_block(block.bn2(block.conv2(x)))))
    return timm_end(block, block.bn3(block.conv3(x)))


def timm_end(block: Any, x: Tensor) -> Tensor:
    """Return x after the attention and the stochastic depth, where there are any."""
    x = x if block.se is None else block.se(x)
    return x if block.drop_path is None else block.drop_path(x)


def timm_regnet(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of timm's Bottleneck of RegNet."""
    return block.drop_path(block.conv3(block.se(block.conv2(block.conv1(x)))))  # type: ignore[no-any-return]


def timm_convnext(block: Any, x: Tensor) -> Tensor:
    """Return f(x) of timm's ConvNeXtBlock."""
    x = block.conv_dw(x)
    if block.use_conv_mlp:
        x = block.mlp(block.norm(x))
    else:
        x = block.mlp(block.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    if block.gamma is not None:
        x = x.mul(block.gamma.reshape(1, -1, 1, 1))
    return block.drop_path(x)  # type: ignore[no-any-return]


def timm_attention(block: Any, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Return the first f(x) of timm's Block of vision transformers."""
    x = block.attn(block.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
    return block.drop_path1(block.ls1(x))  # type: ignore[no-any-return]


def timm_mlp(block: Any, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Return the second f(x) of timm's Block of vision transformers."""
    del attn_mask, is_causal
    return block.drop_path2(block.ls2(block.mlp(block.norm2(x))))  # type: ignore[no-any-return]


RESIDUALS: dict[str, Residual] = {
    "torchvision.models.resnet.BasicBlock": Residual(
        (basic,), lambda block: block.conv2.out_channels, shortcut="downsample", activation="relu"
    ),
    "torchvision.models.resnet.Bottleneck": Residual(
        (bottleneck,), lambda block: block.conv3.out_channels, shortcut="downsample", activation="relu"
    ),
    "torchvision.models.regnet.ResBottleneckBlock": Residual(
        (lambda block, x: block.f(x),),
        lambda block: block.f.c[0].out_channels,
        shortcut="proj",
        activation="activation",
    ),
    "torchvision.models.convnext.CNBlock": Residual((convnext,), lambda block: block.layer_scale.shape[0]),
    "torchvision.models.vision_transformer.EncoderBlock": Residual(
        (attention, lambda block, x: block.mlp(block.ln_2(x))),
        lambda block: block.self_attention.embed_dim,
        channels_last=True,
    ),
    "timm.models.resnet.BasicBlock": Residual(
        (timm_basic,), lambda block: block.conv2.out_channels, shortcut="downsample", activation="act2"
    ),
    "timm.models.resnet.Bottleneck": Residual(
        (timm_bottleneck,), lambda block: block.conv3.out_channels, shortcut="downsample", activation="act3"
    ),
    "timm.models.regnet.Bottleneck": Residual(
        (timm_regnet,),
        lambda block: block.conv3.conv.out_channels,
        shortcut="downsample",
        activation="act3",
        joined=lambda block: block.downsample is not None,
    ),
    "timm.models.convnext.ConvNeXtBlock": Residual(
        (timm_convnext,), lambda block: block.conv_dw.out_channels, shortcut="shortcut"
    ),
    "timm.models.vision_transformer.Block": Residual(
        (timm_attention, timm_mlp), lambda block: block.norm1.normalized_shape[-1], channels_last=True
    ),
}


def kind(module: nn.Module | None) -> str:
    """Return the full name of a module's class, as RESIDUALS has it."""
    return f"{type(module).__module__}.{type(module).__qualname__}"
