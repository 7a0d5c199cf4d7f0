"""What every room uses and no room owns.

`files`, `seals` and `paths` write files that are whole or absent, say whether they were
altered, and where they lie under results/. `errors` is for bad input, `faults` for what
the machine lacks, `extension_failures` for what fails in a user's entries.

`registry` finds entries and reads their heads, `options` is what those are made of.
`codehash` hashes what code means, `versions` says whether numbers still mean what they
did. `command` makes a step's options of a function's parameters, `workers` makes its
processes ready, `progress` says how far it is. `arguments` checks what users pass to
the library, `display` shows its objects.

Nothing here can change a number: no hash of code counts it.
"""
