"""All rows, and the page that counts them."""

from __future__ import annotations

from tests.faults import table_analysis, table_data, table_predict, table_tools, table_train

TABLES = (table_train, table_predict, table_data, table_analysis, table_tools)
FAULTS = [fault for table in TABLES for fault in table.FAULTS]


def markdown() -> str:
    return ""
