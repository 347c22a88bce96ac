"""Spellings of attention, as models have them: each a function and the shapes of its arguments.

Shapes are texts over B (batch), H (heads), G (heads of keys), L (queries), S (keys), D and E (widths of keys and
values); "bool" before a shape makes a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

INF = float("inf")
Q, K, V = "B H L D", "B H S D", "B H S E"


@dataclass(frozen=True)
class Spelling:
    function: Callable[..., torch.Tensor]
    shapes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.function.__name__


SPELLINGS: list[Spelling] = []
LOOKALIKES: list[tuple[Spelling, str]] = []


def spelling(*shapes: str):
    def add(function):
        SPELLINGS.append(Spelling(function, shapes))
        return function

    return add


def lookalike(reason: str, *shapes: str):
    """`reason` is a part of the remark that says why it is not attention."""

    def add(function):
        LOOKALIKES.append((Spelling(function, shapes), reason))
        return function

    return add


def positions(q, k):
    return torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])


def causal(q, k):
    row, column = positions(q, k)
    return column <= row


def lowest(x):
    return torch.finfo(x.dtype).min


# Products and scales.


@spelling(Q, K, V)
def plain(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v


@spelling(Q, K, V)
def scaled_queries(q, k, v):
    return ((q * 0.3) @ k.mT).softmax(dim=3) @ v


@spelling(Q, K, V)
def scaled_both(q, k, v):
    scale = q.shape[-1] ** -0.25
    return F.softmax((q * scale) @ (k * scale).transpose(2, 3), dim=-1).matmul(v)


@spelling("L D", "S D", "S E")
def one_head(q, k, v):
    return torch.softmax(q @ k.T, 1) @ v


@spelling("B L D", "B S D", "B S E")
def batched(q, k, v):
    return torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)


@spelling("B L D", "B S D", "B S E", "B L S")
def baddbmm(q, k, v, bias):
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), beta=1.0, alpha=0.25)
    return torch.bmm(F.softmax(scores, dim=-1), v)


@spelling("B L H D", "B S H D", "B S H E")
def einsum(q, k, v):
    weights = torch.einsum("blhd,bshd->bhls", q, k).softmax(-1)
    return torch.einsum("bhls,bshe->blhe", weights, v)


@spelling("B L H D", "B S H D", "B S H E")
def einsum_keys_first(q, k, v):
    weights = torch.einsum("bshd,blhd->bhsl", k, q).softmax(2)
    return torch.einsum("bhsl,bshe->bhle", weights, v)


@spelling("L B 6", "S B 6", "S B 6")
def heads_from_width(q, k, v):
    def split(x):
        return x.reshape(x.shape[0], x.shape[1] * 2, -1).transpose(0, 1)

    weights = torch.bmm(split(q), split(k).transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, split(v)).transpose(0, 1).reshape(q.shape)


@spelling("B L 6", "B L 6", "B L 6")
def packed_projection(a, b, c):
    q, k, v = (x.unflatten(-1, (2, -1)).transpose(1, 2) for x in torch.cat([a, b, c], -1).chunk(3, -1))
    return (torch.softmax(q @ k.mT * 0.2, -1) @ v).transpose(1, 2).flatten(2)


@spelling("B D L", "B D S", "B E S")
def channels_first(q, k, v):
    weights = torch.softmax(q.transpose(1, 2) @ k, -1)
    return v @ weights.transpose(1, 2)


# Spellings of softmax.


@spelling(Q, K, V)
def by_hand(q, k, v):
    scores = q @ k.mT * 0.3
    e = torch.exp(scores - scores.amax(-1, keepdim=True))
    return (e / e.sum(-1, keepdim=True)) @ v


@spelling(Q, K, V)
def divided_last(q, k, v):
    scores = q @ k.mT * 0.3
    e = torch.exp(scores - scores.max(-1, keepdim=True).values)
    return (e @ v) / e.sum(-1, keepdim=True)


@spelling(Q, K, V)
def no_maximum(q, k, v):
    e = torch.exp(q @ k.mT * 0.3)
    return (e / e.sum(-1, keepdim=True)) @ v


@spelling(Q, K, V)
def log_sum_exp(q, k, v):
    scores = q @ k.mT * 0.3
    return torch.exp(scores - torch.logsumexp(scores, -1, keepdim=True)) @ v


@spelling(Q, K, V)
def log_softmax(q, k, v):
    return F.log_softmax(q @ k.mT * 0.3, -1).exp() @ v


@spelling(Q, K, V)
def reciprocal(q, k, v):
    scores = q @ k.mT * 0.3
    e = torch.exp(scores - scores.amax(-1, keepdim=True))
    return (e * e.sum(-1, keepdim=True).reciprocal()) @ v


@spelling(Q, K, V)
def in_float(q, k, v):
    return F.softmax(q @ k.mT * 0.3, dim=-1, dtype=torch.float32).to(q.dtype) @ v


@spelling(Q, K, V)
def extra_zero(q, k, v):
    """Softmax with one more in the denominator ("off by one")."""
    scores = q @ k.mT * 0.3
    top = scores.amax(-1, keepdim=True).clamp(min=0)
    e = torch.exp(scores - top)
    return (e / (torch.exp(-top) + e.sum(-1, keepdim=True))) @ v


@spelling(Q, K, V)
def padded_zero(q, k, v):
    return F.pad(q @ k.mT * 0.3, (1, 0)).softmax(-1)[..., 1:] @ v


@spelling(Q, K, V, "H")
def sink(q, k, v, sinks):
    """As GPT-OSS spells it."""
    scores = q @ k.mT * 0.3
    sinks = sinks.reshape(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[-2], -1)
    together = torch.cat([scores, sinks], dim=-1)
    together = together - together.max(dim=-1, keepdim=True).values
    return F.softmax(together, dim=-1, dtype=together.dtype)[..., :-1] @ v


@spelling(Q, K, V)
def masked_after(q, k, v):
    """Weights of later keys are struck out and the rest is brought to one."""
    scores = q @ k.mT * 0.3
    e = torch.exp(scores - scores.amax(-1, keepdim=True)).masked_fill(~causal(q, k), 0)
    return (e / e.sum(-1, keepdim=True)) @ v


# Masks and biases.


@spelling(Q, K, V, "bool L S")
def boolean_mask(q, k, v, mask):
    return torch.softmax((q @ k.mT * 0.3).masked_fill(mask, -INF), -1) @ v


@spelling(Q, K, V, "bool B 1 1 S")
def padding_mask(q, k, v, mask):
    scores = (q @ k.mT * 0.3).masked_fill(mask, lowest(q))
    return torch.softmax(scores, -1) @ v


@spelling(Q, K, V, "B 1 L S")
def additive_mask(q, k, v, mask):
    return torch.softmax(q @ k.mT * 0.3 + mask, -1) @ v


@spelling(Q, K, V)
def causal_fill(q, k, v):
    return torch.softmax((q @ k.mT * 0.3).masked_fill(~causal(q, k), -INF), -1) @ v


@spelling(Q, K, V)
def causal_where(q, k, v):
    scores = q @ k.mT * 0.3
    return torch.softmax(torch.where(causal(q, k), scores, torch.tensor(lowest(q), dtype=q.dtype)), -1) @ v


@spelling(Q, K, V)
def causal_triangle(q, k, v):
    scores = q @ k.mT * 0.3
    mask = torch.full(scores.shape[-2:], -INF, dtype=q.dtype).triu(1)
    return torch.softmax(scores + mask, -1) @ v


@spelling(Q, K, V)
def sliding_window(q, k, v):
    row, column = positions(q, k)
    mask = (column <= row) & (row - column < 9)
    return torch.softmax((q @ k.mT * 0.3).masked_fill(~mask, -INF), -1) @ v


@spelling(Q, K, V)
def symmetric_window(q, k, v):
    row, column = positions(q, k)
    scores = (q @ k.mT).masked_fill((row - column > 5) | (column - row > 5), -INF)
    return torch.softmax(scores, -1) @ v


@spelling(Q, K, V)
def prefix(q, k, v):
    row, column = positions(q, k)
    mask = (column <= row) | (column < 5)
    return torch.softmax((q @ k.mT).masked_fill(~mask, -INF), -1) @ v


@spelling(Q, K, V, "bool B S")
def causal_and_padding(q, k, v, padding):
    """As transformers makes the mask of a decoder."""
    mask = causal(q, k) & ~padding[:, None, None, :]
    mask = torch.where(mask, torch.tensor(0.0, dtype=q.dtype), lowest(q))
    return F.softmax(q @ k.mT * 0.3 + mask, dim=-1, dtype=torch.float32).to(q.dtype) @ v


@spelling(Q, K, V, "B L", "B S")
def documents(q, k, v, of_query, of_key):
    mask = (of_query.round()[:, None, :, None] == of_key.round()[:, None, None, :]) | causal(q, k)
    return torch.softmax((q @ k.mT).masked_fill(~mask, -INF), -1) @ v


@spelling(Q, K, V, "H")
def alibi(q, k, v, slopes):
    row, column = positions(q, k)
    bias = slopes[:, None, None] * (column - row).to(q.dtype)
    return torch.softmax((q @ k.mT * 0.3 + bias).masked_fill(~causal(q, k), -INF), -1) @ v


@spelling(Q, K, V, "64 H")
def relative_bias(q, k, v, table):
    """As T5's, with one bucket for each distance."""
    row, column = positions(q, k)
    bias = table[(row - column).clamp(-31, 31) + 31].permute(2, 0, 1)
    return torch.softmax(q @ k.mT + bias, -1) @ v


@spelling("B H S D", "B H S D", "B H S E", "H S S", "bool B S S")
def shifted_windows(q, k, v, bias, shift):
    """As Swin's: a bias for each head, a mask for each window."""
    scores = q @ k.mT + bias
    scores = scores + torch.where(shift, -100.0, 0.0)[:, None].to(q.dtype)
    return torch.softmax(scores, -1) @ v


@spelling(Q, K, V)
def softcap(q, k, v):
    scores = torch.tanh(q @ k.mT * 0.3 / 5) * 5
    return torch.softmax(scores.masked_fill(~causal(q, k), lowest(q)), -1) @ v


# Heads.


@spelling("B H L D", "B G S D", "B G S E")
def grouped_expand(q, k, v):
    def repeat(x):
        batch, heads, length, width = x.shape
        x = x[:, :, None].expand(batch, heads, q.shape[1] // heads, length, width)
        return x.reshape(batch, q.shape[1], length, width)

    return torch.softmax(q @ repeat(k).transpose(2, 3) * 0.3, -1) @ repeat(v)


@spelling("B H L D", "B G S D", "B G S E")
def grouped_interleave(q, k, v):
    count = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(count, 1), v.repeat_interleave(count, 1)
    return torch.softmax(q @ k.mT * 0.3, -1) @ v


@spelling("B H L D", "B G S D", "B G S E")
def grouped_einsum(q, k, v):
    q = q.unflatten(1, (k.shape[1], -1))
    weights = torch.einsum("bghld,bgsd->bghls", q, k).softmax(-1)
    return torch.einsum("bghls,bgse->bghle", weights, v).flatten(1, 2)


@spelling("B H L D", "B G S D", "B G S E")
def grouped_broadcast(q, k, v):
    q = q.unflatten(1, (k.shape[1], -1))
    scores = (q @ k[:, :, None].mT).masked_fill(~causal(q, k), -INF)
    return (torch.softmax(scores, -1) @ v[:, :, None]).flatten(1, 2)


@spelling("B H L D", "B S D", "B S E")
def one_head_of_keys(q, k, v):
    scores = torch.einsum("bhld,bsd->bhls", q, k)
    return torch.einsum("bhls,bse->bhle", scores.softmax(-1), v)


@spelling("B S D", "B S D")
def of_itself(x, y):
    return torch.softmax(x @ x.mT * 0.3, -1) @ (x + y)


# Lookalikes.


@lookalike("over the keys", Q, K, V)
def over_queries(q, k, v):
    return torch.softmax(q @ k.mT, -2) @ v


@lookalike("over the keys", "B H L D", "B H L D", "B H L E")
def over_heads(q, k, v):
    return torch.softmax(q @ k.mT, 1) @ v


@lookalike("is also read by", Q, K, V)
def scores_used_twice(q, k, v):
    scores = q @ k.mT
    return torch.softmax(scores, -1) @ v + scores.sum(-1, keepdim=True)


@lookalike("is also read by", Q, K, V)
def weights_returned(q, k, v):
    weights = torch.softmax(q @ k.mT, -1)
    return weights @ v, weights


@lookalike("stands between", Q, K, V)
def sorted_between(q, k, v):
    return torch.softmax(torch.sort(q @ k.mT, -1).values, -1) @ v


@lookalike("stands between", Q, K, V)
def running_sum(q, k, v):
    return torch.softmax(torch.cumsum(q @ k.mT, -1), -1) @ v


@lookalike("weight", Q, K, V)
def added_weight(q, k, v):
    return (torch.softmax(q @ k.mT, -1) + 0.1) @ v


@lookalike("weight", Q, K, V)
def squared_weights(q, k, v):
    return torch.softmax(q @ k.mT, -1).square() @ v


@lookalike("values depend", "B H L L", "B H L L")
def values_are_scores(q, k):
    scores = q @ k
    return torch.softmax(scores, -1) @ scores


@lookalike("different scores", Q, K, V)
def other_denominator(q, k, v):
    scores = q @ k.mT
    return (torch.exp(scores) / torch.exp(scores * 0.5).sum(-1, keepdim=True)) @ v
