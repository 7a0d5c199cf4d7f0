"""Metrics score one SAE on one split; a file is a metric.

`python -m sae score` runs those that config.yaml names.

An entry has `STAGE` (the job that runs it: 'score', 'robustness' or 'probe'), `SPLITS`
(the splits it gives rows for), `READS` (what it reads beside that split: 'train',
'val', 'others'), perhaps `JUDGED = True` (it is only for SAEs that a protocol chose to
be judged) and `Options`, and

    def score(subject: Subject, split: str, options: Options) -> Scores

What the workflow, `sae.score` and the site need to know of it, it says of itself, if
there is anything to say:

    ALONE = True
        `sae.score` gives it by default, where what it reads is given.
    SHOWN = ("detection",)
        Columns that it gives `latents.parquet` and that the explorer shows.
    OTHERS = ("thumbnail",)
        Backbones of the config that are its `others`, in place of the experiment's.
        Of a dataset without images there are none.
    FILLED = {"largest": "smallest_k"}
        What an option is where it is null: the experiment's `smallest_k`, `families`
        ({backbone: family}), or options of `detection`.
    RANKINGS = ("draws", "kinds"), MOST_TRAIN = 100_000
        Options (a number, or a list) whose product says how often each judge ranks all
        images for each latent, and how many training images it is shown at most.
        `make plan` reckons with both.
    FITS = {"images": "max_train", "strengths": "C", "largest": "largest"}
        Options that say on how many training images at most probes are fitted, with
        which strengths of the penalty, and up to which k'. `make plan` reckons with
        them.

No two metrics give a score of one name. None builds an N x m array: all read the same
sparse codes.
"""
