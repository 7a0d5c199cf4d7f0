"""Read what people answered in the view *Judge* of a site, and print what it says."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sae.comparison import ratings
from sae.core import files, outputs, paths
from sae.core.errors import UserError
from sae.core.options import describe_problems
from sae.report import markup, style
from sae.report.names import printed
from sae.report.site import pack
from sae.report.site.trials import (
    CATCH,
    CATCH_TRIALS,
    COUNTED,
    FORMAT,
    SCORES,
    payload_hash,
)

COMMAND = "judged"
PAGE = "judged.md"
TABLES = ("shares", "correlations", "answers")
FIGURE = "psychometric"
FEWEST_CAUGHT = 5  # catch trials, of `CATCH_TRIALS`, in which a rater must be right
# Answers that count, for a rater to be counted: half of what a session asks. On few
# images it asks less than ten of a method.
FEWEST_OF_METHOD = 5
FEWEST_CATCHES = 3  # that a rater must have seen
CANNOT_TELL = 0.5  # what such an answer is worth: a guess


class Answer(BaseModel):
    """One answer of a file of answers.

    Attributes:
        trial: The number of the trial.
        latent: The latent that it is about.
        left_image, right_image: Rows of the two images that were asked about.
        answer: The side that was chosen, or "none", cannot tell.
        milliseconds: How long it took.
    """

    model_config = ConfigDict(extra="forbid")

    trial: int
    latent: int
    left_image: int
    right_image: int
    answer: Literal["left", "right", "none"]
    milliseconds: int = Field(ge=0)


class AnswerFile(BaseModel):
    """A file that the page saves.

    Attributes:
        format: The format of the file.
        experiment, dataset, backbone, k: Whose latents were rated.
        site: The hash of the trials.
        rater: The rater's alias; empty if none was given.
        seed: Of the rater's draw of trials.
        answers: In the order in which they were given.
    """

    model_config = ConfigDict(extra="forbid")

    format: int
    experiment: str
    site: str
    dataset: str
    backbone: str
    k: int
    rater: str
    seed: int
    answers: list[Answer]


@dataclass(frozen=True)
class Study:
    """The trials of one cell of a site.

    Attributes:
        methods: {id: whether it is a control}, the baseline first.
        trials: A row for each trial, by its number: dataset, backbone, k, method,
            latent, kind, fires, silent, and the scores of the latent.
    """

    methods: dict[str, bool]
    trials: pd.DataFrame


@dataclass(frozen=True)
class Ratings:
    """The answers of people to a site's trials.

    Attributes:
        answers: As :func:`sae.comparison.ratings.shares_right` takes them.
        scores: As :func:`sae.comparison.ratings.correlations` takes them.
        methods: Ids, the baseline first.
        controls: Those of them that are controls.
        remarks: A sentence for each rater that does not count, and for each two whose
            answers are equal.
    """

    answers: pd.DataFrame
    scores: pd.DataFrame
    methods: list[str]
    controls: list[str]
    remarks: list[str]


def rated(site: Path, answers: Sequence[Path], /, *, out: Path | None = None) -> None:
    """Print what people said in the view Judge of a site.

    By method the share of right answers, its difference to the baseline, and how
    people's answers go with scores of the same latents. Two raters whose answers are
    all equal are named. A rater is left out, and that
    is said, who is right in fewer than five of six catch trials, saw fewer than three
    of them, or gave fewer answers that count than half of a session, 20 with four
    methods. Files with one alias are of one rater.

    Args:
        site: The folder of the site.
        answers: Files that the page saved, one for each rater.
        out: A folder to write judged.md, shares.csv, correlations.csv, answers.csv and
            psychometric.png into, too.

    Raises:
        UserError: a file is damaged, of another site or an older version, or holds an
            answer twice; no rater counts; `out` holds other files of these names.
    """
    if out is not None:
        figure_names = [f"{FIGURE}.{suffix}" for suffix in paths.FIGURE_SUFFIXES]
        table_names = [f"{name}.csv" for name in TABLES]
        outputs.check_folder(out, COMMAND, [PAGE, *table_names, *figure_names])
    of_site = read_ratings(Path(site), [Path(file) for file in answers])
    looks = {
        row["id"]: {**row, "label": printed(row["label"])}
        for row in pack.read_payload(Path(site), "overview")["methods"]
    }
    shares = ratings.shares_right(
        of_site.answers,
        of_site.methods,
        of_site.controls,
    )
    correlations = ratings.correlations(of_site.answers, of_site.scores)
    page = _page(of_site, shares, correlations, looks)
    print(page)
    if out is None:
        return
    answers_to_write = of_site.answers
    # Raters choose their alias, which a spreadsheet must not take for a formula.
    answers_to_write = answers_to_write.assign(
        rater=answers_to_write["rater"].str.replace(
            r"^(?=[=+\-@\t\r])", "'", regex=True
        )
    )
    tables = zip(TABLES, [shares, correlations, answers_to_write], strict=True)
    figure = draw_psychometric(of_site, looks)
    with outputs.replacing_folder(out, COMMAND, PAGE) as folder:
        files.write_text(folder / PAGE, page + "\n")
        for name, table in tables:
            text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
            files.write_text(folder / f"{name}.csv", text)
        style.save(figure, folder, FIGURE)


# -- reading


def read_ratings(site: Path, answer_files: Sequence[Path]) -> Ratings:
    """Read the answers of several raters to the trials of a site.

    Raises:
        UserError: as :func:`rated` says.
    """
    studies = read_studies(site)
    if not answer_files:
        raise UserError("name at least one file of answers that the page saved")
    rows: list[dict[str, Any]] = []
    remarks: list[str] = []
    rater_by_answers: dict[frozenset[tuple[object, ...]], str] = {}
    file_by_session: dict[tuple[str, object], Path] = {}
    # What a rater was asked again counts once.
    rated_latents: set[tuple[object, ...]] = set()
    methods: dict[str, bool] = {}
    for file in answer_files:
        answer_file = _read_answers(file)
        study = studies.get(answer_file.site)
        if study is None:
            raise UserError(
                f"{file}: it answers trials of another site, or of an earlier one of "
                f"this name; {site} has other trials"
            )
        # A session may have been saved twice: with other words beside the same answers,
        # or early and late, with one seed.
        answers_as_text = tuple(map(str, answer_file.answers))
        for key in (
            (answer_file.site, answers_as_text),
            (answer_file.site, answer_file.seed),
        ):
            if key in file_by_session:
                raise UserError(
                    f"{file}: the same rater's answers as {file_by_session[key]}; give "
                    "the one that has more of them"
                )
            file_by_session[key] = file
        rater_rows = _answer_rows(file, answer_file, study)
        reason = _why_left_out(rater_rows, len(study.methods))
        if reason:
            remarks.append(f"{file.name} is left out: {reason}.")
            continue
        # Who rated twice, or in two cells, is one rater.
        rater = answer_file.rater.strip() or f"rater {answer_file.seed}"
        what_was_answered = frozenset(
            (*(row[name] for name in ratings.LATENT), row["kind"], row["correct"])
            for row in rater_rows
        )
        first_rater = rater_by_answers.setdefault(what_was_answered, rater)
        if first_rater != rater:
            remarks.append(
                f"{first_rater} and {rater} gave equal answers to all of the same "
                "trials, and count as two: if they are one person, give one file."
            )
        for row in rater_rows:
            latent = (rater, *(row[name] for name in ratings.LATENT))
            if row["kind"] == COUNTED and latent not in rated_latents:
                rated_latents.add(latent)
                rows.append({"rater": rater, **row})
        methods.update(study.methods)
    if not rows:
        raise UserError(f"no rater counts: {' '.join(remarks)}")
    all_trials = pd.concat([study.trials for study in studies.values()])
    counted_trials = all_trials[all_trials["kind"] == COUNTED]
    return Ratings(
        answers=pd.DataFrame(rows).drop(columns="kind"),
        scores=counted_trials[[*ratings.LATENT, *SCORES]],
        methods=list(methods),
        controls=[method for method, is_control in methods.items() if is_control],
        remarks=remarks,
    )


def read_studies(site: Path) -> dict[str, Study]:
    """Return {hash: study} of the cells of a site.

    Raises:
        UserError: the folder is no site, has no trials, or they were altered.
    """
    if not (site / "data/overview.js").exists():
        raise UserError(
            f"{site} is no site: name the folder that has index.html and data, such "
            "as results/demo/report"
        )
    studies = {}
    for file in sorted((site / "data/judge").glob("*.js")):
        payload = pack.read_payload(site, f"judge/{file.stem}")
        is_whole = isinstance(payload, dict) and "hash" in payload
        if not is_whole or payload["hash"] != payload_hash(payload):
            raise UserError(f"{file} was altered: make the site again")
        studies[payload["hash"]] = _study(payload)
    if not studies:
        raise UserError(f"{site} has no trials for people to rate")
    return studies


def _study(payload: dict[str, Any]) -> Study:
    methods = {method["id"]: method["control"] for method in payload["methods"]}
    ids = list(methods)
    columns = ("kind", "method", "latent", "fires", "silent", *SCORES)
    trials = pd.DataFrame({name: pack.unpacked(payload[name]) for name in columns})
    # Whole numbers without bounds, so that they compare and join with any others.
    whole_numbers = dict.fromkeys(("kind", "latent", "fires", "silent"), int)
    trials = trials.astype({**whole_numbers, **dict.fromkeys(SCORES, float)})
    trials["method"] = [ids[place] for place in trials["method"]]
    for name in ("dataset", "backbone", "k"):
        trials[name] = payload[name]
    return Study(methods, trials)


def _read_answers(file: Path) -> AnswerFile:
    try:
        # Some editors put a mark before the text.
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is cut short or no file of answers: {error}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version != FORMAT:
        raise UserError(
            f"{file} has answers in format {version}; this version reads {FORMAT}"
        )
    try:
        return AnswerFile.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file}: {describe_problems(error)}") from None


def _answer_rows(
    file: Path, answer_file: AnswerFile, study: Study
) -> list[dict[str, Any]]:
    """Return a row for each answer: its latent, its kind, and what it is worth."""
    rows = []
    answered: set[int] = set()
    for answer in answer_file.answers:
        if answer.trial in answered:
            raise UserError(f"{file}: trial {answer.trial} is answered twice")
        answered.add(answer.trial)
        trial = _trial_of(answer, study)
        if trial is None:
            raise UserError(
                f"{file}: trial {answer.trial} is not one of the site's; the file was "
                "altered"
            )
        rows.append(
            {
                "kind": trial["kind"],
                **{name: trial[name] for name in ratings.LATENT},
                "correct": _worth(answer, trial),
                "answer": answer.answer,
                "milliseconds": answer.milliseconds,
            }
        )
    return rows


def _trial_of(answer: Answer, study: Study) -> pd.Series | None:
    """Return the trial that was answered, if the site has it as it was shown."""
    if not 0 <= answer.trial < len(study.trials):
        return None
    trial = study.trials.iloc[answer.trial]
    answered_images = {answer.left_image, answer.right_image}
    asked_images = {trial["fires"], trial["silent"]}
    if trial["latent"] != answer.latent or answered_images != asked_images:
        return None
    return trial


def _worth(answer: Answer, trial: pd.Series) -> float:
    if answer.answer == "none":
        return CANNOT_TELL
    chosen_image = answer.right_image
    if answer.answer == "left":
        chosen_image = answer.left_image
    return float(chosen_image == trial["fires"])


def _why_left_out(rows: Sequence[dict[str, Any]], method_count: int) -> str | None:
    counted = sum(row["kind"] == COUNTED for row in rows)
    needed_answers = FEWEST_OF_METHOD * method_count
    if counted < needed_answers:
        return f"{counted} answers that count, of {needed_answers} that are needed"
    catches = [row["correct"] == 1 for row in rows if row["kind"] == CATCH]
    if len(catches) < FEWEST_CATCHES:
        return f"{len(catches)} catch trials answered, of {FEWEST_CATCHES} needed"
    # Of a rater who stopped early, as large a share.
    needed = len(catches) * FEWEST_CAUGHT / CATCH_TRIALS
    if sum(catches) < needed:
        return f"right in {sum(catches)} of {len(catches)} catch trials"
    return None


# -- printing


def _page(
    people: Ratings,
    shares: pd.DataFrame,
    correlations: pd.DataFrame,
    looks: dict[str, dict[str, Any]],
) -> str:
    raters = people.answers["rater"].nunique()
    lines = [
        f"Raters: {raters}. Answers: {len(people.answers)}. By chance the share right "
        "is .5. Intervals of 95 %: bootstrap over raters and latents.",
        markup.markdown(_printed_shares(shares, looks)),
    ]
    if len(correlations):
        lines.append(
            "Observed shares right beside other scores of the same latents: Spearman, "
            "within methods. With few answers a latent they are noisy, and the "
            "correlation lies nearer to 0 than that of the true shares."
        )
        rows = [
            {
                "score": row["score"],
                "latents": str(row["latents"]),
                "correlation": _with_interval(
                    row["correlation"], row["low"], row["high"], "+"
                ),
            }
            for row in correlations.to_dict("records")
        ]
        lines.append(markup.markdown(pd.DataFrame(rows)))
    return "\n\n".join([*lines, *people.remarks])


def _printed_shares(
    shares: pd.DataFrame, looks: dict[str, dict[str, Any]]
) -> pd.DataFrame:
    rows = []
    for row in shares.to_dict("records"):
        line = {
            "method": looks[row["method"]]["label"],
            "raters": str(row["raters"]),
            "latents": str(row["latents"]),
            "answers": str(row["answers"]),
            "right": _with_interval(row["share"], row["low"], row["high"]),
            "beside the baseline": "",
            "p": "",
            "outcome": "",
        }
        if pd.notna(row.get("difference")):
            line["beside the baseline"] = _with_interval(
                row["difference"], row["difference_low"], row["difference_high"], "+"
            )
            if pd.notna(row["p_holm"]):
                line["p"] = f"{row['p_holm']:.3f}"
            line["outcome"] = row["outcome"]
        rows.append(line)
    return pd.DataFrame(rows)


def _with_interval(value: float, low: float, high: float, sign: str = "") -> str:
    if pd.isna(value):
        return "-"
    text = f"{value:{sign}.3f}"
    if pd.notna(low):
        text += f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return text


def draw_psychometric(people: Ratings, looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw people's share right against detection, a line for each method."""
    points = ratings.psychometric(people.answers, people.scores, "detection")
    with style.plt.rc_context(style.RC):
        figure, ax = style.plt.subplots(figsize=(4, 3), layout="constrained")
        for method in people.methods:
            rows = points[points["method"] == method]
            if rows.empty:
                continue
            errors = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
            ax.errorbar(
                rows["score"],
                rows["share"],
                yerr=errors,
                label=style.fit(looks[method]["label"], 2.0),
                color=looks[method]["colour"],
                marker=looks[method]["marker"],
                capsize=2,
            )
        ax.axhline(0.5, color=style.GREY, linestyle=":", linewidth=1)
        ax.set_xlabel("detection of the latents, mean of a quarter of them")
        ax.set_ylabel("share of people's answers that are right")
        if not points.empty:
            ax.legend(frameon=False)
    return figure
