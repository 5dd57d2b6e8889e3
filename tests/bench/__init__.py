"""Measures the product against floors of the same run: `python -m tests.bench`.

Each measurement is one module with a `measure(stage, scale)`; its floor is in the module, or in
a `floor_…` program beside it. Nothing here is a test with a time limit: `test_bench_runs` only
sees to it that the benches still run.
"""
