"""What tests of several rooms share; benches read some of it (bench/_growth.py)."""
