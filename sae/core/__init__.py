"""What every room uses and no room owns: files that are whole or absent, errors, faults of the machine.

`registry` finds entries and reads their heads, `options` is what those are made of, `own` says where an entry of a user
failed. `codehash` hashes what code means, `versions` says whether numbers still mean what they did. `command` makes a
step's options of a function's parameters, `workers` makes its processes ready. `paths` says where everything lies
under results/. Nothing here can change a number: no hash of code counts it.
"""
