"""Frozen values and pure decisions. Nothing here does I/O or reads a clock."""
