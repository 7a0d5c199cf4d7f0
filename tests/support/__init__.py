"""What tests of several rooms share; benches read some of it (bench/_support.py)."""
