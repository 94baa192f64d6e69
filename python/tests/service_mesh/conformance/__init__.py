"""The scenarios of `conformance/`, replayed from Python.

`scenarios.py` reads a file, `expect.py` compares, and one module a subject plays a scenario's steps on a driver, as
`crates/conformance` does in Rust: there it is checked that every file makes sense. The `test_*.py` hold the drivers.
"""
