"""Metrics score one SAE on one split; a file is a metric.

`python -m sae score` runs those that config.yaml names. An entry has

    def score(subject: Subject, split: str, options: Options) -> Scores

and says in constants when it runs, and what on:

- `STAGE`: 'score' for every SAE, 'chosen' for those that a protocol chose to get every
  score; 'robustness' and 'probe' for these, too, each in a job of its own.
- `SPLITS`: the splits that it gives rows for.
- `READS`: what it reads beside that split: other splits, 'others', 'siblings',
  'concepts', or a backbone of the config by its name.

docs/extending.md says what each of these is. No two metrics give a score of one name.
None builds an N x m array: all read the same sparse codes.
"""
