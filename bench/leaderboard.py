"""The leaderboard of the results that are kept: `python bench/leaderboard.py`.

It writes docs/leaderboard.md, and computes nothing: all numbers are of the tables that
`python bench/reference.py rebuild` makes of kept rows.
Methods that were tuned and tested together are a *setting*; there is no order between
methods of two settings. Results of the project's own that are kept later are another
setting of `SETTINGS`, under their kind of data. Submissions (`make submit`) are found by
their submission.json, whose hashes are checked.
"""

import re
from math import inf, isnan
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sae.report.fronts import LOOKS, SHOWN_CONTROLS
from sae.scoring.front import DETECTION, MS
from sae_workflow import again, settings, submission

from sae.comparison import controls, outcomes
from sae.comparison.intervals import IntervalRule
from sae.comparison.published import interval, plain
from sae.core import files
from sae.report import outcomes as words
from sae.report.markup import markdown, prose, wrapped
from sae.report.names import Names
from sae.scoring.rows import CELL

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results"
PAGE = ROOT / "docs/leaderboard.md"

# Who made rows, as the table says it.
OWN = "own run"
SUBMITTED = "as submitted"
MADE_AGAIN = "made again"


class Setting(NamedTuple):
    """Methods that were tuned and tested together.

    Attributes:
        name: What rows call it.
        experiment: The experiment, which docs/results keeps in a folder of this name.
        design: Its data, sizes and trials, in words.
        commits: What made its rows, in words.
        rows: Who made them, one of `OWN`, `SUBMITTED` and `MADE_AGAIN`.
        page: The page of its folder that tells of it.
        names: How its methods are printed; None: as the config says.
    """

    name: str
    experiment: str
    design: str
    commits: str
    rows: str = OWN
    page: str = "README.md"
    names: Names | None = None


# {kind of data: its settings}.
SETTINGS = {
    "Photographs": [
        Setting(
            "photographs",
            "photographs",
            "six sets of photographs, and CIFAR-10 and Tiny-ImageNet at 32 pixels; "
            "about 5,755 training images each; EfficientNet-Lite0 and DINOv2 S/14; "
            "m = 512, k = 16, 11 training images a latent; 12 trials a method",
            "made by commit ed184824",
        ),
        Setting(
            "photographs, all images",
            "photographs_all",
            "the same on CIFAR-10 and Tiny-ImageNet with all their training images "
            "(45,000 and 84,998), 88 and 166 a latent",
            "made by commit ed184824",
        ),
    ],
}

# {score: heading of its column}.
SCORES = {
    DETECTION: "detection",
    "detection_auc_all": "detection, all latents",
    MS: "MS",
    "concepts_match": "match with concepts",
}
PRICES = {"measured": "latents measured", LOOKS: "detection by looks"}
ROW = ["setting", "method"]

# The heading of what others sent.
SUBMISSIONS = "Submissions"

HEAD = """
Which way of training an SAE is better, at the same reconstruction? These are the kept
results of the experiments that tune all methods alike, on two datasets or more. `python
bench/leaderboard.py` writes the page from their tables. A method of yours can [stand
beside them](extending.md#your-method-on-the-leaderboard), and you can [submit
it](#submit-yours).
"""
HOW_TO_READ = """
An entry is a method's score minus that of Top-k after the same tuning, at the same R²,
signed so that more is better. In brackets is the 95 % interval over blocks. Where some
cells could not be compared, it says how many could. The first row of a setting has the
scores of Top-k itself. Rows are in the order of detection, within their setting alone,
since settings differ in data, sizes and trials; what is not comparable comes last. [The
rule](protocol.md#fronts-how-methods-with-several-trials-compare) says how it is read.
"""
CONTROLS_IN_WORDS = """
*Controls* say what a difference is worth. They are trained in part or not at all, are
not tuned, stand at an R² of their own, and have the Top-k beside them that the paper's
rule chose.
"""
PRICES_IN_WORDS = """
*Latents measured*: the difference in the share of latents that fire often enough for
detection. *R²*: the difference in R² that is left on test images. *Cells up*: in how
many cells detection is higher than that of Top-k.
"""
LOOKS_IN_WORDS = """
*Detection by looks*: the difference where 8 x 8 pixels of the images stand in for the
backbone: what can be seen without a network. It is read where detection is highest.
"""
TIME = """
Rows have no times. Where they were measured, a training step with Reg. 1 or Reg. 2 took
1.2 to 1.8 times as long as one of Top-k ([costs](performance.md#the-training-step)).
"""
SCORES_IN_WORDS = """
*Detection* (AUC; chance is .5): how well a backbone of another family finds the images
of a latent after ten examples, mean over the latents that fire often enough to be
measured. In *all latents* the others count as .5. *MS*, the Monosemanticity Score: how
alike the images of a latent are. *Match with concepts* (F1 above chance): how well
latents match the keywords that people gave the images.
"""
ROWS_IN_WORDS = """
*Rows* says who made them. *Own run*: an experiment of this project, which nobody else
has made again. *As submitted*: somebody else sent the rows, and the files are as they
were sent. *Made again*: besides, a maintainer ran one cell of them, and found what was
sent, [to the bit or within tolerances](#how-a-submission-is-made-again).
"""
SUBMIT = """
Run an experiment of your own to its end
([how](extending.md#your-method-on-the-leaderboard)), on images that others can get,
from a commit whose code is unchanged: what is yours is in a config and a folder of
`extensions`. Give all methods as many trials, as protocol `fair` does; the page says how
many they had. Detection needs backbones of two families; a word such as *better* needs
three blocks. Then
"""
SUBMIT_COMMAND = "make submit EXPERIMENT=mine CONFIG=mine.yaml"
WHAT_IS_SUBMITTED = """
writes the folder `docs/results/mine`: the rows of every SAE; the tables made of them;
`config.yaml`, all that the experiment uses, with what it takes over written out; a copy
of your extensions; and `submission.json`. That holds the commit, the machine, the
versions of libraries, and the SHA-256 of each of these files but the tables. Open a
pull request with the folder and this page. Nobody edits a number by hand. `mine` is no
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
detection and MS by {detection}, detection of all latents by {all}: no three seeds of
one trial differ by more in any kept result. On the mean over a tuned method's SAEs on a
split none may differ by more than {mean}, which this page calls equivalent. A method's
difference from Top-k, of detection and MS in the cell, may differ by {effect}, since
those of three seeds do not differ by more either. That finds rows that were not made as
they say; it does not make a difference of some thousandths sure.
"""
INCONCLUSIVE_IN_WORDS = (
    "neither. The interval holds what is still possible; it is not corrected, so it may "
    "leave out 0"
)


def main() -> None:
    """Write docs/leaderboard.md."""
    files.write_text(PAGE, page())


def page() -> str:
    """Return the text of docs/leaderboard.md."""
    config = settings.read_config(str(ROOT / "config.yaml"))
    paragraphs = ["# Leaderboard", wrapped(HEAD)]
    settings_by_kind = dict(SETTINGS)
    if submitted := submissions():
        settings_by_kind[SUBMISSIONS] = submitted
    for kind, settings_of_kind in settings_by_kind.items():
        designs = []
        lines = []
        for setting in settings_of_kind:
            means, differences = read(setting)
            designs.append(describe(setting, means))
            names = setting.names
            if names is None:
                labels = settings.printed_names(config, setting.experiment)
                names = Names.model_validate(labels)
            for line in compare(setting, means, differences, names):
                lines.append({**line, "rows": setting.rows})
        table = pd.DataFrame(lines)
        # Submissions may have no match with concepts.
        scores = table.reindex(columns=[*ROW, *SCORES.values(), "rows"], fill_value="-")
        scores = scores.fillna("-")
        prices = table.drop(columns=[*SCORES.values(), "rows"], errors="ignore")
        prices = prices.fillna("-")
        has_price = (prices.drop(columns=ROW) != "-").any(axis="columns")
        paragraphs += [
            f"## {kind}",
            "\n".join(designs),
            markdown(scores),
            "Prices:",
            markdown(prices[has_price]),
        ]

    meanings = words.meanings(IntervalRule())
    meanings[outcomes.INCONCLUSIVE] = INCONCLUSIVE_IN_WORDS
    paragraphs += [
        "## How to read it",
        wrapped(HOW_TO_READ),
        wrapped(CONTROLS_IN_WORDS),
        wrapped(PRICES_IN_WORDS),
        wrapped(LOOKS_IN_WORDS),
        wrapped(TIME),
        wrapped(ROWS_IN_WORDS),
        "## Scores and words",
        wrapped(SCORES_IN_WORDS),
        "Words are said of detection and MS:",
        "\n".join(wrapped(f"- *{word}*: {when}.") for word, when in meanings.items()),
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
                all=decimals(again.TOLERANCE["detection_auc_all"]),
                mean=decimals(again.TOLERANCE_OF_MEAN),
                effect=decimals(again.TOLERANCE_OF_EFFECT),
            )
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


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
                record.experiment,
                prose(record.design),
                commits,
                rows=rows,
                page="tables/fronts.md",
                names=record.names,
            )
        )
    return found


def say_made_again(found: dict[str, Any]) -> str:
    """Return which cell a maintainer made again, and how near it came."""
    cell = " / ".join(str(found["cell"][name]) for name in CELL)
    largest = short(f"{found['largest_difference'][DETECTION]:.4f}")
    nearness = f"{found['rule']}, detection differs by {largest} at most"
    if found["rule"] == again.TO_THE_BIT:
        nearness = f"the same {found['rule']}"
    return (
        f"cell {cell} made again by commit {found['commit'][:8]}, on "
        f"{prose(found['machine'])}: {nearness}"
    )


def read(setting: Setting) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a setting's means at the first width, and what its controls differ by."""
    folder = RESULTS / setting.experiment
    means = pd.read_csv(folder / "tables/front_means.csv")
    differences = pd.read_csv(folder / "tables/front_controls.csv")
    is_over_all = differences["dataset"] == controls.ALL
    return outcomes.headline(means), differences[is_over_all]


def describe(setting: Setting, means: pd.DataFrame) -> str:
    """Return what a reader must know of a setting, as an item of a list."""
    of_detection = means[means["score"] == DETECTION].iloc[0]
    speak_of = "these datasets"
    if words.speaks_of_others(means):
        speak_of = "other datasets"
    return wrapped(
        f"- [{setting.name}](results/{setting.experiment}/{setting.page}): "
        f"{setting.design}; {cells_of(of_detection)} cells in "
        f"{int(means['blocks'].max())} blocks; words speak of {speak_of}. Rows "
        f"{setting.commits}."
    )


def cells_of(row: Any) -> int:
    """Return how many cells a setting has, compared or not."""
    return int(row["cells"] + row["out_of_reach"] + row["infeasible"])


def compare(
    setting: Setting, means: pd.DataFrame, differences: pd.DataFrame, names: Names
) -> list[dict[str, str]]:
    """Return a line for Top-k, then one for each method and for the first controls.

    They are in the order of detection; what is not comparable is last.
    """
    headings = SCORES | PRICES
    line_by_method: dict[str, dict[str, str]] = {}
    detection: dict[str, float] = {}
    for row in means[means["score"].isin(headings)].to_dict("records"):
        method = names.method(row["method"])
        line = line_by_method.setdefault(method, {})
        line[headings[row["score"]]] = say(row)
        if row["score"] == DETECTION:
            line["R²"] = short(interval(row["r2_difference"]))
            line["cells up"] = f"{row['up']} of {row['cells']}"
            if row["outcome"] != outcomes.NOT_COMPARABLE:
                detection[method] = row["effect"]

    is_shown = differences["control"].isin(names.controls[:SHOWN_CONTROLS])
    is_shown &= differences["score"].isin(headings)
    for row in differences[is_shown].to_dict("records"):
        method = f"{names.method(row['control'])} (control)"
        line = line_by_method.setdefault(method, {})
        text = interval(row["difference"], row["low"], row["high"])
        line[headings[row["score"]]] = short(text)
        if row["score"] == DETECTION:
            detection[method] = row["difference"]

    # Each method has Top-k's level over its own cells: here that of most cells.
    by_cells = means.sort_values("cells", ascending=False, kind="stable")
    levels = by_cells.groupby("score")["level"].first()
    baseline = {
        heading: short(plain(levels[score]))
        for score, heading in headings.items()
        if score in levels
    }
    lines = [{"setting": setting.name, "method": "Top-k: its own scores", **baseline}]
    by_detection = sorted(
        line_by_method, key=lambda method: -detection.get(method, -inf)
    )
    for method in by_detection:
        line = line_by_method[method]
        lines.append({"setting": setting.name, "method": method, **line})
    return lines


def say(row: dict[Any, Any]) -> str:
    """Return an effect with its interval and its word, or why there is none."""
    if isnan(row["effect"]) or words.is_out_of_reach(row):
        return words.say(row)
    text = short(interval(row["effect"], row["low"], row["high"]))
    if isinstance(row["outcome"], str):
        is_compared = row["outcome"] != outcomes.NOT_COMPARABLE
        text += f" {row['outcome'] if is_compared else words.say(row)}"
    if row["cells"] < cells_of(row):
        text += f" ({row['cells']} of {cells_of(row)} cells)"
    return text


def short(text: str) -> str:
    """Return numbers without the 0 before their point, and 0 without a sign."""
    return re.sub(r"\b0\.", ".", re.sub(r"[+-]0\.000\b", "0.000", text))


if __name__ == "__main__":
    main()
