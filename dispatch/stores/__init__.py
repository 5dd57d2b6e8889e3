"""Rows: identity, who may see what, coarse status. What happened stands on the streams."""
