"""Which SAEs a cell trains next, and which of them count: one file a protocol.

The project's own are a design, which says what every method tries, and a rule, which
says what of it counts:

    paper    a sweep (`_sweep`)                    the largest lambda (`_largest_lambda`)
    tuned    sweeps, a list (`_lists`) or draws    the best that reconstructs as well
             (`_draws`)                            (`sae.scoring.choice`)

A protocol sees what validation says so far. It has `VERSION`; `METRICS`, what it reads
of each SAE on the validation split; perhaps a class `Options`; and

    next(history) -> list[Sae]       every SAE that it asks for, as far as it can say
    choose(history) -> Choice           when nothing that it asks for is missing
    at_most(plan, options) -> Sizes     how many SAEs these may be

It may also have

    config_problems(use, options) -> Iterator[Problem]
        what is wrong with an experiment that uses it (:mod:`sae.config.protocol_use`)

Two protocols of an experiment may ask for the same SAE, which is trained once.

`history` is what was trained for it, with its scores on validation
(:class:`sae.protocols._history.History`): no number of the test split can reach it.
`_cell` trains what is asked for, scores it, and asks again.
"""
