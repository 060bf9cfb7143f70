"""Small transformers written by hand, and their attention and its rollout the slow way, in NumPy."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    """Attention and a hidden layer, each with its residual."""

    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A small vision transformer whose head reads the class token, or averages the patches."""

    fail = False

    def __init__(self, size=(16, 24), depth=3, width=12, outputs=5, prefix=1, pool=False):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.prefix = nn.Parameter(torch.randn(1, prefix, width))
        self.positions = nn.Parameter(torch.randn(1, size[0] * size[1] // 16, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.pool = pool
        self.head = nn.Linear(width, outputs)
        for part in self.modules():
            if isinstance(part, nn.MultiheadAttention):
                nn.init.normal_(part.in_proj_weight, std=0.6)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT + self.positions
        x = self.blocks(torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1))
        if self.fail:
            raise RuntimeError("the head broke")
        return self.head(x[:, self.prefix.shape[1] :].mean(1) if self.pool else x[:, 0])


class WindowTokens(nn.Module):
    """Attention over the rows of a grid, written by hand."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        rows = x.flatten(0, 1)
        x = self.norm(x + self.attention(rows, rows, rows)[0].view(x.shape))
        return self.fc(x.mean((1, 2)))


def attention_by_hand(network, batch, layers):
    """Return softmax(q kᵀ / √d) of every layer, in NumPy, from its input and the weights of its projections.

    Args:
        network: The transformer.
        batch: Its input.
        layers: For each layer the module whose output attention is given, its weight and bias, and its heads.
    """
    inputs = []
    handles = [norm.register_forward_hook(lambda *args: inputs.append(args[2])) for norm, *_ in layers]
    with torch.no_grad():
        network(batch)
    for handle in handles:
        handle.remove()
    result = []
    for tokens, (_, weight, bias, heads) in zip(inputs, layers, strict=True):
        x, w, b = (t.detach().double().numpy() for t in (tokens, weight, bias))
        width = x.shape[2]
        q, k = (x @ w[i * width : (i + 1) * width].T + b[i * width : (i + 1) * width] for i in (0, 1))
        q, k = (t.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3) for t in (q, k))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(width / heads)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        result.append(scores / scores.sum(-1, keepdims=True))
    return result


def rolled_out(attention, fuse=lambda heads: heads.mean(0), discard=0.0):
    """Return the whole product of one image, written as in the paper."""
    product = np.eye(attention[0].shape[-1])
    for heads in attention:
        fused = fuse(heads).copy()
        order = np.argsort(fused, axis=None)[: int(discard * fused.size)]
        fused.flat[order] = 0
        mixed = 0.5 * fused + 0.5 * np.eye(len(fused))
        product = (mixed / mixed.sum(-1, keepdims=True)) @ product
    return product


def projections(blocks, norm, attention):
    """Return what `attention_by_hand` wants of blocks that hold PyTorch's own attention."""
    parts = [(getattr(block, norm), getattr(block, attention)) for block in blocks]
    return [(n, a.in_proj_weight, a.in_proj_bias, a.num_heads) for n, a in parts]
