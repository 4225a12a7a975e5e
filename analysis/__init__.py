"""Metrics and tables: knows files, not models."""
