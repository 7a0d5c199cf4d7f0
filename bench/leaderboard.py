"""The leaderboard of the results that are kept: `python bench/leaderboard.py`.

It writes docs/leaderboard.md, and computes nothing: all numbers are of the tables that
`python bench/reference.py rebuild` makes of kept rows.
Methods that were tuned and tested together are a *setting*; there is no order between
methods of two settings. Results of the project's own that are kept later are another
setting of `SETTINGS`, under their kind of data. Submissions (`make submit`) are found by
their submission.json, whose hashes are checked.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sae_workflow import again, settings, submission

from sae.comparison.intervals import IntervalRule
from sae.comparison.verdicts import of_mean
from sae.core import files
from sae.report import comparison
from sae.report.markup import markdown, prose, wrapped
from sae.report.names import Names
from sae.scoring.choice import DETECTION, ENDPOINTS, MS
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results"
PAGE = ROOT / "docs/leaderboard.md"

# Who made rows, as the page says it.
OWN = "own run"
SUBMITTED = "as submitted"
MADE_AGAIN = "made again"

# How many controls stand beside the methods.
SHOWN_CONTROLS = 2


class Setting(NamedTuple):
    """Methods that were tuned and tested together.

    Attributes:
        name: The experiment, which docs/results keeps in a folder of this name.
        design: Its data, sizes and trials, in words.
        commits: What made its rows, in words.
        choice: Of which SAEs the rows are, in words; None: as the means say.
        endpoints: The scores that have intervals, that of the order first.
        rows: Who made them, one of `OWN`, `SUBMITTED` and `MADE_AGAIN`.
        page: The page of its folder that tells of it.
        names: How its methods are printed; None: as the config says.
    """

    name: str
    design: str
    commits: str
    choice: str | None = None
    endpoints: tuple[str, ...] = ENDPOINTS
    rows: str = OWN
    page: str = "README.md"
    names: Names | None = None


REREAD = (
    "Chosen by detection per latent, after the rows had been read: post hoc. {fresh} of "
    "{chosen} chosen trials are read with fresh seeds, the others with the tuning's own."
)
# Made by 1.0.0, which did not score detection per activation.
REREAD_ENDPOINTS = ("detection_per_latent", MS)
SETTINGS = [
    Setting(
        "photographs",
        "Six sets of photographs, and CIFAR-10 and Tiny-ImageNet at 32 pixels; about "
        "5,755 training images each; EfficientNet-Lite0 and DINOv2 S/14; m = 512, "
        "k = 16, 11 training images a latent; 12 trials a method",
        "made by commit ed184824",
        REREAD.format(fresh=30, chosen=48),
        REREAD_ENDPOINTS,
    ),
    Setting(
        "photographs_all",
        "The same on CIFAR-10 and Tiny-ImageNet with all their training images (45,000 "
        "and 84,998), 88 and 166 a latent",
        "made by commit ed184824",
        REREAD.format(fresh=11, chosen=12),
        REREAD_ENDPOINTS,
    ),
]

HEAD = """
Which way of training an SAE is better, at the same reconstruction? These are the kept
results of the experiments that tune all methods alike, on two datasets or more. `python
bench/leaderboard.py` writes the page from their tables. A method of yours can stand
beside those of the demo ([how](extending.md#your-method-on-the-leaderboard)), and you
can [submit it](#submit-yours).
"""
HOW_TO_READ = """
An entry is a method's score minus that of Top-k after the same tuning, where both
reconstruct as well. In brackets is the 95 % interval. Methods are in the
order of detection, within their setting alone, since settings differ in data, sizes and
trials. Controls are trained in part or not at all, are not tuned, and stand at an R² of
their own. [The rule](protocol.md#the-choice-the-best-sae-that-reconstructs-as-well) says
how SAEs are chosen.
"""
TIME = """
Rows have no times. Where they were measured, a training step with Reg. 1 or Reg. 2 took
1.2 to 1.8 times as long as one of Top-k ([costs](performance.md#the-training-step)).
"""
ROWS_IN_WORDS = """
*Own run*: an experiment of this project, which nobody else has made again. *As
submitted*: somebody else sent the rows, and the files are as they were sent. *Made
again*: besides, a maintainer ran one cell of them, and found what was sent, [to the bit
or within tolerances](#how-a-submission-is-made-again).
"""
SUBMIT = """
Run an experiment of your own to its end
([how](extending.md#your-method-on-the-leaderboard)), on images that others can get,
from a commit whose code is unchanged: what is yours is in a config and a folder of
`extensions`. Give all methods as many trials in protocol `tuned`; the page says how many
they had. Detection needs backbones of two families; a word such as *better* needs six
datasets. Then
"""
SUBMIT_COMMAND = "make submit EXPERIMENT=mine CONFIG=mine.yaml"
WHAT_IS_SUBMITTED = """
writes the folder `docs/results/mine`: the rows of every SAE; the tables made of them;
`config.yaml`, all that the experiment uses, with what it takes over written out; a copy
of your extensions; and `submission.json`. That holds the commit, the machine, the
versions of libraries, and the SHA-256 of each of these files but the tables. Open a
pull request with the folder and this page, to the repository that `repository-code` in
CITATION.cff names. Nobody edits a number by hand. `mine` is no
experiment of the project, and nothing in the folder is a link. What you put beside
these files, such as a page, stays when you submit again: `submit.sums.json` lists what
is replaced. The command warns of what others cannot repeat or compare: places on your
machine, backbones whose precision hangs on the processor (`..._fast`), unequal numbers
of trials, no method of yours.
"""
BEFORE_AGAIN = """
**Read the code first.** Besides this page, the pull request changes `docs/results/mine`
alone, and brings no `mine.made_again.json` beside it: `git diff --stat main...` lists
its files. What lies in `docs/results/mine/extensions` is a stranger's program. `make
again` would run it with your rights; it names the files, and does nothing until
`READ=1` says that you have read them. Do not run the tests before that, either: they
make tables by the submitted config. Look at `config.yaml`, too: it says which files and
models are opened and fetched. Then, in a checkout of your own,
"""
AGAIN_COMMAND = "make again EXPERIMENT=mine READ=1"
WHAT_IS_MADE_AGAIN = """
checks the files against their hashes, makes the tables anew from the rows, and runs one
cell by the submitted config: embeddings, SAEs, scores. It is the cell of the fewest
training images and the smallest k, or `CELL='DATASET BACKBONE K'`, which the submitter
cannot know. It prints which entries the submitter added or defines otherwise, what
differs in code, machine and libraries, and the largest difference of each score, and
says *made again* or what is not as submitted. If all is well,
`docs/results/mine.made_again.json`, beside the submitter's folder, records it, and this
page marks the rows; a later edit of the folder, tables included, takes the mark away.
Nothing in the folder is taken for the record. It is a maintainer's word and no
signature, and proves that one cell came out so once; of the other cells it says
nothing.
"""
RULE_IN_WORDS = """
**What may differ.** Where the code, the processor, Python, threads, device and
libraries are those that the submission names, nothing: every score of the cell is the
same to the bit. Whether it names its own nobody can check. Another processor rounds
otherwise, and training makes more of it, nearly as much as of another seed; validation
may then choose other trials. So half of the SAEs or more must be found again, of each
tuned method, on each split, with each seed. In each of them R² may differ by {r2},
detection and MS by {detection}, detection per latent by {per_latent}: no three seeds of
one trial differ by more in any kept result. On the mean over a tuned method's SAEs on a
split none may differ by more than {mean}, which this page calls equivalent. A method's
difference from Top-k, of detection and MS in the cell, may differ by {effect}, since
those of three seeds do not differ by more either. That finds rows that were not made as
they say; it does not make a difference of some thousandths sure.
"""


def main() -> None:
    """Write docs/leaderboard.md."""
    files.write_text(PAGE, page())


def page() -> str:
    """Return the text of docs/leaderboard.md."""
    config = settings.read_config(str(ROOT / "config.yaml"))
    paragraphs = ["# Leaderboard", wrapped(HEAD)]
    for setting in [*SETTINGS, *submissions()]:
        names = setting.names
        if names is None:
            labels = settings.printed_names(config, setting.name)
            names = Names.model_validate(labels)
        paragraphs += section(setting, read(setting, names), names)
    return (
        "\n\n".join(
            [
                *paragraphs,
                "## How to read it",
                wrapped(HOW_TO_READ),
                wrapped(TIME),
                wrapped(ROWS_IN_WORDS),
                comparison.key_of_verdicts(IntervalRule()),
                "## Submit yours",
                wrapped(SUBMIT),
                f"```sh\n{SUBMIT_COMMAND}\n```",
                wrapped(WHAT_IS_SUBMITTED),
                "## How a submission is made again",
                wrapped(BEFORE_AGAIN),
                f"```sh\n{AGAIN_COMMAND}\n```",
                wrapped(WHAT_IS_MADE_AGAIN),
                wrapped(
                    RULE_IN_WORDS.format(
                        r2=decimals(again.TOLERANCE["r2"]),
                        detection=decimals(again.TOLERANCE[DETECTION]),
                        per_latent=decimals(again.TOLERANCE["detection_per_latent"]),
                        mean=decimals(again.TOLERANCE_OF_MEAN),
                        effect=decimals(again.TOLERANCE_OF_EFFECT),
                    )
                ),
            ]
        )
        + "\n"
    )


def section(setting: Setting, means: pd.DataFrame, names: Names) -> list[str]:
    """Return the paragraphs of a setting: its data, effects, and all scores."""
    if not (means["cells"] > 0).any():
        return [f"## {setting.name}", comparison.NO_COMPARISON]
    rows = means[~means["control"]]
    cells = int(rows["all_cells"].max())
    about = (
        f"On [its page](results/{setting.name}/{setting.page}) there is more. "
        f"{setting.design}; {cells} cells on {int(means['datasets'].max())} datasets. "
        f"{setting.choice or comparison.which_saes(means)} Rows: {setting.rows}, "
        f"{setting.commits}."
    )
    return [
        f"## {setting.name}",
        wrapped(about),
        markdown(comparison.verdict_table(means, names, setting.endpoints)),
        "All scores of the same SAEs: Top-k's own, then differences from them. A score "
        "that only some cells have says how many.",
        markdown(comparison.score_table(means, names)),
    ]


def decimals(number: float) -> str:
    """Return a number below 1 without the 0 before its point."""
    return f"{number:g}".removeprefix("0")


def submissions() -> list[Setting]:
    """Return what others sent, in the order of their names.

    Raises:
        UserError: A file of theirs was altered.
    """
    found = []
    for file in sorted(RESULTS.glob(f"*/{submission.RECORD}")):
        record = submission.read(file.parent)
        rows = SUBMITTED
        commits = f"made by commit {record.commit[:8]}, on {prose(record.machine)}"
        made_again = submission.made_again(file.parent)
        if made_again is not None:
            rows = MADE_AGAIN
            commits += f"; {say_made_again(made_again)}"
        found.append(
            Setting(
                record.experiment,
                prose(record.design[:1].upper() + record.design[1:]),
                commits,
                rows=rows,
                page="tables/comparison.md",
                names=record.names,
            )
        )
    return found


def say_made_again(found: dict[str, Any]) -> str:
    """Return which cell a maintainer made again, and how near it came."""
    cell = " / ".join(str(found["cell"][name]) for name in CELL)
    largest = decimals(round(found["largest_difference"][DETECTION], 4))
    nearness = f"{found['rule']}, detection differs by {largest} at most"
    if found["rule"] == again.TO_THE_BIT:
        nearness = f"the same {found['rule']}"
    return (
        f"cell {cell} made again by commit {found['commit'][:8]}, on "
        f"{prose(found['machine'])}: {nearness}"
    )


def read(setting: Setting, names: Names) -> pd.DataFrame:
    """Return a setting's means: methods in the order of detection, then controls."""
    means = pd.read_csv(RESULTS / setting.name / "tables/comparison.csv")
    controls = names.controls[:SHOWN_CONTROLS]
    means = means[~means["control"] | means["method"].isin(controls)]
    first = of_mean(means)
    first = first[first["score"] == setting.endpoints[0]]
    effect = means["method"].map(first.set_index("method")["effect"])
    return (
        means.assign(order=-effect)
        .sort_values(["control", "order"], kind="stable")
        .drop(columns="order")
    )


if __name__ == "__main__":
    main()
