"""A judge that judges nothing is refused: a constant one, and copies of the SAE's own."""

import numpy as np
import pytest
from scoring.examples import TinyBank, coder, write_activations

import sae
from sae.core.errors import UserError
from sae.models.inputs import unit_rows
from sae.scoring import stage
from sae.scoring.judges import check_judge, r2_from

D = 40


def draw_encoders(count, seed=0):
    """Return what two encoders say of the same images: half of it is common."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(count, 12))
    encoders = []
    for _ in range(2):
        x = common @ generator.normal(size=(12, D)) + 6
        x += 3 * generator.normal(size=x.shape)
        encoders.append(x.astype(np.float32))
    return encoders


COPIES = {
    "itself": lambda x: x,
    "float16": lambda x: x.astype(np.float16),
    "doubled": lambda x: 2 * x,
    "shifted": lambda x: x + 5,
    "unit norm": unit_rows,
    "standardised": lambda x: (x - x.mean(0)) / x.std(0),
    "centred, unit norm": lambda x: unit_rows(x - x.mean(0)),
}
MAPS = {
    "other order of dimensions": lambda x: x[:, ::-1],
    "half of the dimensions": lambda x: x[:, : D // 2],
    "mixed and shifted": lambda x: (
        x @ np.random.default_rng(1).normal(size=(D, 2 * D)) + 1
    ),
}


@pytest.mark.parametrize("copy", (COPIES | MAPS).values(), ids=COPIES | MAPS)
def test_a_copy_of_the_saes_own_embeddings_is_refused(copy):
    own, other = draw_encoders(400)
    with pytest.raises(UserError, match="judge j is a copy of the SAE's own embedding"):
        check_judge("judge j", copy(own), own)
    check_judge("judge j", other, own)


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_fewer_images_than_dimensions_show_copies_by_dimension(copy):
    own, other = draw_encoders(30)
    with pytest.raises(UserError, match="copy of the SAE's own"):
        check_judge("judge j", copy(own), own)
    check_judge("judge j", other, own)


def test_another_encoder_is_taken_of_images_that_are_there_often():
    # What is held out is fitted, too: any encoder is a map of any other one then.
    own, other = (np.tile(x, (8, 1)) for x in draw_encoders(30))
    check_judge("judge j", other, own)
    with pytest.raises(UserError, match="copy of the SAE's own"):
        check_judge("judge j", 2 * own, own)
    near = np.random.default_rng(0).normal(size=own.shape) / 100
    check_judge("judge j", other + near[::-1], own + near)


@pytest.mark.parametrize("value", [0, 3])
def test_a_constant_judge_is_refused(value):
    own, _ = draw_encoders(30)
    judge = np.full((30, 5), value, np.float32)
    with pytest.raises(UserError, match="judge j has no variance"):
        check_judge("judge j", judge, own)
    # Lengths are not looked at.
    judge *= np.arange(1, 31)[:, None]
    with pytest.raises(UserError, match="judge j has no variance"):
        check_judge("judge j", judge, own)


def test_r2_is_that_of_held_out_images():
    own, other = draw_encoders(4000)
    # Of 12 common parts among noise.
    assert 0.3 < r2_from(own, other) < 0.6
    generator = np.random.default_rng(0)
    assert abs(r2_from(own, generator.normal(size=(4000, 5)))) < 0.05


def test_sae_score_refuses_copies():
    own = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    judge = {"j": (2 * own).astype(np.float16)}
    with pytest.raises(UserError, match=r"judges\['j'\] is a copy of the SAE's own"):
        sae.score(coder(0), own, judges=judge)
    other = {"j": own[::-1] ** 2}
    with pytest.raises(UserError, match=r"train_judges\['j'\] is a copy of the SAE's"):
        sae.score(coder(0), own, judges=other, train=own + 1, train_judges=judge)


def test_an_experiment_refuses_copies_by_another_family(tmp_path):
    for name in ("b", "copy"):
        write_activations(tmp_path / name, name)
    bank = TinyBank(tmp_path / "bank.json")
    bank.add("topk", coder=coder(0))

    def run(families):
        metrics = {"detection": {"families": families}}
        settings = stage.StageSettings(metrics=metrics)
        others = {"copy": tmp_path / "copy"}
        stage.run(
            "score",
            bank.file,
            tmp_path / "b",
            settings,
            tmp_path / "out",
            others=others,
        )

    with pytest.raises(UserError, match="copy/train is a copy of the SAE's own"):
        run({"b": "f", "copy": "g"})
    # Nobody takes it for a judge.
    run({"b": "f", "copy": "f"})
