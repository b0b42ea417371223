"""Drop-path: which inputs the joins of a fractal network keep in training.

The paths of a network are a tensor of booleans (blocks, rows, columns) on the CPU: whether the join after a row of a
block keeps what a column brings. Column c has 2^c layers in a block, the last column one in each of 2^(columns − 1)
rows. A layer of column c is 2^(columns − 1 − c) rows long, and the join after row r has an input from each column of
whose length r is a multiple, rows counted from 1; what the other columns bring there counts as dropped.

Source: Larsson, Maire, Shakhnarovich 2017, "FractalNet", the section on regularisation by drop-path.
"""

from __future__ import annotations

import torch
from torch import Tensor


def joined(row: int, columns: int) -> range:
    """Return the columns that a join after the row, counted from 1, has inputs from: always the last one."""
    return range(max(0, columns - (row & -row).bit_length()), columns)


def all_paths(blocks: int, columns: int) -> Tensor:
    """Return paths without a drop."""
    rows = range(1, 2 ** (columns - 1) + 1)
    there = [[column in joined(row, columns) for column in range(columns)] for row in rows]
    return torch.tensor(there, device="cpu").expand(blocks, -1, -1)


def column_paths(blocks: int, columns: int, column: int | Tensor) -> Tensor:
    """Return the paths of which every join keeps one column alone, the same in all blocks."""
    return all_paths(blocks, columns) & (torch.arange(columns, device="cpu") == column)


def local_paths(blocks: int, columns: int, rate: float) -> Tensor:
    """Return paths where each join drops each of its inputs with probability `rate`, given that one at least is kept.

    The number that n inputs keep is binomial, conditioned on at least 1. (The published programs draw once and keep one
    input at random where all were dropped: with rate 0.15 and n = 2, one alone is kept with probability 0.2775 there,
    0.2609 here.) Input by input from the shallowest: with none kept so far and m inputs left, this one included, it is
    kept with probability (1 − rate) / (1 − rate^m), which is Bayes' rule and 1 for the last; after that, with 1 − rate.
    """
    there = all_paths(blocks, columns)
    draws = torch.rand(there.shape, dtype=torch.float64, device="cpu")
    none = torch.ones(there.shape[:2], dtype=torch.bool, device="cpu")
    kept: list[Tensor] = []
    for column in range(columns):
        draw, first = draws[..., column], (1 - rate) / (1 - rate ** (columns - column))
        keep = ((draw < 1 - rate) | (none & (draw < first))) & there[..., column]
        none = none & ~keep
        kept.append(keep)
    return torch.stack(kept, -1)


def sampled_paths(blocks: int, columns: int, rate: float, global_share: float) -> Tensor:
    """Return the paths of one mini-batch: with probability `global_share` one column alone, else local ones.

    The column, each as likely as another, is the same in all blocks and for all images of the mini-batch. Drawn from
    torch's global generator of the CPU, as many numbers whatever comes of them, so that a graph can be compiled.
    """
    of_column = torch.rand((), dtype=torch.float64, device="cpu") < global_share
    column = torch.randint(columns, (), device="cpu")
    return torch.where(of_column, column_paths(blocks, columns, column), local_paths(blocks, columns, rate))


def used_paths(paths: Tensor) -> Tensor:
    """Return those of the paths that reach the end of their block: what the others bring is read by no kept path."""
    blocks, rows, columns = paths.shape
    read = [torch.zeros(blocks, dtype=torch.bool, device=paths.device) for _ in range(rows)]
    read.append(~read[0])
    used = [[read[0]] * columns for _ in range(rows)]
    for row in range(rows, 0, -1):
        for column in joined(row, columns):
            used[row - 1][column] = read[row] & paths[:, row - 1, column]
            start = row - 2 ** (columns - 1 - column)
            read[start] = read[start] | used[row - 1][column]
    return torch.stack([torch.stack(row, -1) for row in used], 1)
