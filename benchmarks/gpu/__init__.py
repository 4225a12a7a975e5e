"""What only a GPU can tell: tests and measurements of one call, most telling first, kept as they come (docs/PERFORMANCE.md)."""
