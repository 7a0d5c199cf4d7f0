"""Many SAEs: what a plan asks for (plan), the store of SAEs (finished), what trains those it lacks (train), and what a
cell has (read).
"""
