"""All rows, and the page that counts them."""

from __future__ import annotations

from tests.faults import table_predict, table_train

FAULTS = [*table_train.FAULTS, *table_predict.FAULTS]


def markdown() -> str:
    return ""
