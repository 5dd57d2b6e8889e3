"""The schema's history, forward only. `runner.upgrade` is the one way in."""
