"""Many SAEs: the bank of a cell.

`plan` says which SAEs a cell is asked to train, `store` keeps those that are finished,
`train` trains those that the store lacks, and `read` reads the list of a cell's SAEs.
"""
