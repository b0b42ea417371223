"""What a search on each data set means if nothing else is said."""

from __future__ import annotations

from typing import Any

FIRST = ("euler", "lm", "midpoint", "ab2", "ab3", "momentum")
# The two-step schemes of Lu et al. 2018 and their relatives: what a search draws where nothing else is said.
TWO_STEP: dict[str, Any] = {
    "family": ("multistep",),
    "steps": (1, 2),
    "order": (1, 2),
    "free_slopes": ("zero", "slopes"),
    "transition": ("restart",),
    "learning": ("fixed", "learned"),
    "constraint": ("none", "zero-stable"),
    "tying": ("none",),
}

# What a search on each data set means if nothing else is said. On digits, 5 epochs are where schemes differ by more
# than the seed does: test error over 4 seeds 11.8 ± 3.1 % for Euler, 5.7 ± 1.4 % for momentum; after 8, 5.4 and 3.5 %.
BUDGETS: dict[str, dict[str, Any]] = {
    "digits": {
        "depth": 56,
        "width": 4,
        "train_size": 600,
        "epochs": 5,
        "trials": 40,
        "recipe": {"batch_size": 32},
        "confirm": {"seeds": 7},
    },
    "mnist": {"depth": 20, "width": 4, "train_size": 5_000, "epochs": 5, "trials": 40, "confirm": {"seeds": 3}},
    "fashion-mnist": {
        "depth": 20,
        "width": 8,
        "train_size": 10_000,
        "epochs": 5,
        "trials": 40,
        "confirm": {"seeds": 3},
    },
    "cifar10": {"depth": 20, "width": 16, "train_size": None, "epochs": 30, "trials": 40, "confirm": {"seeds": 3}},
    "cifar100": {"depth": 20, "width": 16, "train_size": None, "epochs": 30, "trials": 40, "confirm": {"seeds": 3}},
    "folder": {"depth": 20, "width": 16, "train_size": None, "epochs": 30, "trials": 40, "confirm": {"seeds": 3}},
    "denoise": {
        "depth": 20,
        "width": 8,
        "train_size": 600,
        "epochs": 4,
        "trials": 30,
        "recipe": {"algorithm": "adam", "batch_size": 8, "learning_rate": 0.01},
        "confirm": {"seeds": 5},
    },
}
