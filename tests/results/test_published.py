from __future__ import annotations

from typing import Any

import pandas as pd

from odenas.results import published
from odenas.results.columns import PUBLISHED


def row(network: str, **fields: str) -> pd.Series[Any]:
    table = published()
    mask = table["network"] == network
    for name, part in fields.items():
        mask &= table[name].str.contains(part, regex=False)
    (index,) = table.index[mask]
    found: pd.Series[Any] = table.loc[index]
    return found


def test_the_table_is_complete() -> None:
    table = published()
    assert table.dtypes.astype(str).to_dict() == {name: dtype for name, (dtype, _) in PUBLISHED.items()}
    needed = ["network", "scheme", "depth", "data", "error_percent", "statistic", "source"]
    assert table[needed].notna().all(axis=None)
    assert table["error_percent"].between(3, 30).all()
    assert set(table["data"]) == {"cifar10", "cifar100", "imagenet"}
    assert not table.duplicated(["network", "data", "statistic", "source", "error_percent"]).any()


def test_misprints_are_corrected_and_noted() -> None:
    assert row("ResNet-32", source="He et al.")["error_percent"] == 7.51
    assert "7.57" in row("ResNet-32", source="He et al.")["note"]
    assert row("LM-ResNet-110")["params"] == 1_730_000
    assert "1.14M" in row("LM-ResNet-110")["note"]


def test_the_numbers_of_lm_resnet() -> None:
    table = published()
    lm = table[table["scheme"] == "lm"].set_index("depth")["error_percent"]
    assert lm.to_dict() == {20: 8.33, 32: 7.18, 44: 6.66, 56: 6.31, 110: 6.16, 164: 5.27}
