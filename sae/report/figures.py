"""The figures: what draws each, what it reads, what it shows. The drawing modules do not read this list."""

from typing import NamedTuple


class Figure(NamedTuple):
    """A figure: the module that draws it, the tables it reads, what it shows."""

    module: str
    tables: list[str]
    caption: str

    @property
    def needs_images(self):
        """Whether it shows images of the dataset."""
        return any(table.startswith("gallery/") for table in self.tables)


_CURVES = ["metrics.parquet", "curves.parquet"]
FIGURES = {
    "fig1": Figure(
        "sae.report.plots.sample",
        ["gallery/sample.parquet"],
        "Activations of one test image (the one with the baseline's median error) before the Top-k, sorted. In colour "
        "what the Top-k keeps, in grey what it discards and the regularizers act on.",
    ),
    "fig2": Figure(
        "sae.report.plots.gallery",
        ["gallery/images.parquet"],
        "Latents at the same rank of MS, without and with a regularizer: the test images that activate each most, "
        "middling and least. Ranks are fixed beforehand, over latents that fire on 30 test images or more (where fewer "
        "than ten do: as often as the tenth).",
    ),
    "fig3": Figure(
        "sae.report.plots.gallery",
        ["gallery/images.parquet"],
        "The same latent (index, initialisation) without and with a regularizer, ranked by the baseline's MS.",
    ),
    "fig4": Figure(
        "sae.report.plots.rank_profile",
        _CURVES,
        "Mean activation by rank within the sample, before the Top-k, at the middle training k; dotted: k.",
    ),
    "fig5": Figure(
        "sae.report.plots.robustness",
        _CURVES,
        "Normalised reconstruction error (1 - R², test) against the k used at inference, for SAEs trained with one k "
        "(dotted); mean over seeds.",
    ),
    "fig5_probe": Figure(
        "sae.report.plots.probe",
        _CURVES,
        "Test top-1 of a linear probe on each image's k' largest activations; mean over seeds.",
    ),
    "lambda": Figure(
        "sae.report.plots.lambda_sweep",
        ["metrics.parquet"],
        "Difference from the baseline against lambda: R² on the validation split, which chooses lambda (ringed), and "
        "mean MS over alive latents on the test split.",
    ),
}
