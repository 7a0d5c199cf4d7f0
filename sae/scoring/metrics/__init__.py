"""Scores of one SAE on one split: a file is a metric (`python -m sae score` runs those that config.yaml names).

An entry has `STAGE` (the job that runs it: 'score', 'robustness' or 'probe'), `SPLITS` (the splits it gives rows for),
`READS` (what it reads beside that split: 'train', 'val', 'others'), perhaps `JUDGED = True` (it is only for SAEs that a
protocol chose to be judged) and `Options`, and

    def score(subject: Subject, split: str, options: Options) -> Scores

No two metrics give a score of one name. None builds an N x m array: all read the same sparse codes.
"""
