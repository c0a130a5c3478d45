"""Four small networks for pictures of 64 pixels, one of each family: VGG, ResNet, EfficientNet and ViT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.core import check
from workbench.core.errors import BadValueError

__all__ = ["BirdEfficientNet", "BirdResNet", "BirdVGG", "BirdViT"]


class BirdVGG(nn.Module):
    """A plain stack of convolutions with ReLU, max-pooling between them, and a head of two dense layers.

    Without batch norm the convolutions of `features` are at 0, 3, 5, 8, 10, 13 and 15, each followed by its ReLU.

    Parameters
    ----------
    n_classes : int
    widths : sequence of int
        Channels of the stages; the first has one convolution, the others two. Between stages the side is halved.
    batch_norm : bool
        Put one behind each convolution.
    """

    def __init__(self, n_classes: int = 10, *, widths: tuple[int, ...] = (16, 32, 64, 96), batch_norm: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(widths):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(2 if stage else 1):
                layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU())
                before = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Linear(before, before), nn.ReLU(), nn.Linear(before, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (sample, class_) of pictures (sample, 3, y, x)."""
        return self.classifier(self.flatten(self.pool(self.features(x))))


class BirdResNet(nn.Module):
    """Residual blocks of two convolutions with batch norm; names as in torchvision's ResNets.

    `layer1` to `layer3` hold the blocks, `fc` gives the logits from the mean over positions.

    Parameters
    ----------
    n_classes : int
    widths : sequence of int
        Channels of the stages; each but the first halves the side.
    blocks : sequence of int
        Blocks per stage.
    """

    def __init__(
        self, n_classes: int = 10, *, widths: tuple[int, ...] = (24, 48, 96), blocks: tuple[int, ...] = (1, 2, 2)
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        before = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            steps = [2 if stage and n == 0 else 1 for n in range(count)]
            layer = nn.Sequential(*(_Residual(before if n == 0 else width, width, s) for n, s in enumerate(steps)))
            self.add_module(f"layer{stage + 1}", layer)
            before = width
        self.stages = len(widths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(before, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (sample, class_) of pictures (sample, 3, y, x)."""
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(self.flatten(self.avgpool(x)))


class _Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(inner + self.downsample(x))


class BirdEfficientNet(nn.Module):
    """Inverted bottlenecks: widen by a 1x1 convolution, look around channel by channel, narrow again.

    `blocks` holds the bottlenecks, `conv_head` the last convolution, `classifier` gives the logits.

    Parameters
    ----------
    n_classes : int
    widths : sequence of int
        Channels after each bottleneck; where they change, the side is halved.
    expansion : int
        How much wider a bottleneck is inside.
    squeeze : bool
        Weigh channels by what there is in the whole picture (squeeze and excitation). LRP has no rule for that
        product, so relevance is lost there: without it, the gap is small.
    activation : {"silu", "relu"}
    """

    def __init__(
        self,
        n_classes: int = 10,
        *,
        widths: tuple[int, ...] = (16, 24, 24, 48, 48, 48),
        expansion: int = 4,
        squeeze: bool = False,
        activation: str = "silu",
    ):
        super().__init__()
        act = {"silu": nn.SiLU, "relu": nn.ReLU}[check.one_of("activation", activation, ("silu", "relu"))]
        self.conv_stem = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = act()
        before = widths[0]
        blocks = []
        for width in widths[1:]:
            blocks.append(_Bottleneck(before, width, 1 if width == before else 2, expansion, squeeze, act))
            before = width
        self.blocks = nn.Sequential(*blocks)
        self.conv_head = nn.Conv2d(before, 3 * before, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(3 * before)
        self.act2 = act()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(3 * before, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (sample, class_) of pictures (sample, 3, y, x)."""
        x = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        x = self.act2(self.bn2(self.conv_head(x)))
        return self.classifier(self.flatten(self.pool(x)))


class _Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int, expansion: int, squeeze: bool, act: type[nn.Module]):
        super().__init__()
        wide = before * expansion
        self.conv_pw = nn.Conv2d(before, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.act1 = act()
        self.conv_dw = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.act2 = act()
        self.se: nn.Module = _Squeeze(wide, max(4, before // 2), act) if squeeze else nn.Identity()
        self.conv_pwl = nn.Conv2d(wide, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.has_skip = stride == 1 and before == width

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act1(self.bn1(self.conv_pw(x)))
        inner = self.se(self.act2(self.bn2(self.conv_dw(inner))))
        inner = self.bn3(self.conv_pwl(inner))
        return inner + x if self.has_skip else inner


class _Squeeze(nn.Module):
    def __init__(self, width: int, narrow: int, act: type[nn.Module]):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = nn.Conv2d(width, narrow, 1)
        self.act1 = act()
        self.conv_expand = nn.Conv2d(narrow, width, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(self.pool(x)))))


class BirdViT(nn.Module):
    """A vision transformer: patches as tokens, a class token in front, blocks of attention and dense layers.

    A few convolutions make the patches, which lets it learn from few pictures (Xiao et al. 2021). Names are those of
    timm's: `patch_embed`, `blocks.0.attn.qkv`, …, `norm`, `head`.

    Parameters
    ----------
    n_classes : int
    size : int
        Side of the pictures in pixels.
    patch : int
        Side of a patch, a power of two.
    width : int
        Dims of a token.
    depth : int
        Blocks.
    heads : int
    ratio : int
        How much wider the dense layers are inside.
    """

    def __init__(
        self,
        n_classes: int = 10,
        *,
        size: int = 64,
        patch: int = 8,
        width: int = 80,
        depth: int = 6,
        heads: int = 4,
        ratio: int = 2,
    ):
        super().__init__()
        steps = patch.bit_length() - 1
        if patch < 2 or patch != 1 << steps or size % patch:
            raise BadValueError(f"`patch` must be 2, 4, 8, … and divide the size {size}; got {patch!r}.")
        self.patch_embed = nn.Sequential()
        before = 3
        for n in range(steps):  # each convolution halves the side
            after = width >> (steps - 1 - n)
            self.patch_embed.add_module(f"conv{n}", nn.Conv2d(before, after, 3, stride=2, padding=1))
            if n < steps - 1:
                self.patch_embed.add_module(f"act{n}", nn.ReLU())
            before = after
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (sample, class_) of pictures (sample, 3, y, x)."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2)  # (sample, token, dim)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, ratio * width))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        # (sample, token, 3 * dim) -> three of (sample, head, token, dim of a head)
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))
