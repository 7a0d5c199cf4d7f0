"""An SAE that Python alone trains is that of an experiment."""

import numpy as np
import pytest
import torch
import yaml
from bank.common import REG1, method, plan, write_activations
from conftest import ROOT
from support.errors import assert_names, refused_naming

import sae
from sae.bank.train import Place, Trainer, cell_data_of
from sae.core.errors import UserError
from sae.data import store
from sae.models import convert
from sae.training import alone
from sae.training.penalties import off_support_l1


def embeddings(n=80, d=6):
    return np.random.default_rng(0).normal(size=(n, d)) + 1


def trained(x=None, **arguments):
    """Train a small SAE, shortly unless the arguments say how long."""
    x = embeddings() if x is None else x
    return sae.train(x, **{"k": 4, "m": 32, "epochs": 2} | arguments)


def same(one, other):
    """Tell whether two SAEs have the same tensors, bit for bit."""
    pairs = zip(
        one.coder.tensors().values(), other.coder.tensors().values(), strict=True
    )
    return all(torch.equal(*pair) for pair in pairs)


def test_the_recipe_is_that_of_the_demo():
    recipes = yaml.safe_load((ROOT / "config.yaml").read_text())["training"]
    demo = recipes[recipes["demo"].pop("extends")] | recipes["demo"]
    written = {"m": 512, "auxk_k": alone.AUXK_K, "steps": None, "frozen": None}
    assert {**alone.RECIPE, **written} == demo


@pytest.mark.parametrize("penalty", [None, "off_support_l1"])
def test_it_is_the_sae_of_an_experiment_and_its_file_says_how_to_take_embeddings(
    penalty, tmp_path
):
    torch.set_num_threads(1)
    activations = write_activations(tmp_path / "activations")
    lam = 0.01 if penalty else None
    methods = {"topk": method(), "reg1": method(**REG1, sweep={"lambda": [0.01]})}
    recipe = alone.RECIPE | {"m": 32, "auxk_k": 32, "epochs": 2}
    cell_plan = plan(methods, recipe=recipe)
    place = Place(tmp_path / "store", tmp_path / "bank/bank.json")
    trainer = Trainer(cell_plan, cell_data_of(cell_plan, activations, "cpu"), place)
    name, trial = ("reg1", {"lambda": lam}) if penalty else ("topk", {})
    (of_bank,) = trainer.bring([cell_plan.member(name, trial, 0, "paper")])
    expected = sae.load(place.store / of_bank.key / "sae.safetensors")

    x = store.read(activations / "train").embeddings
    model = trained(x, penalty=penalty, lam=lam)
    assert same(model, expected)
    sae.save(model, tmp_path / "sae.safetensors")
    loaded = sae.load(tmp_path / "sae.safetensors")
    np.testing.assert_array_equal(loaded.reconstruct(x), expected.reconstruct(x))
    assert loaded.metadata["settings"]["lambda"] == lam
    # The lengths of embeddings and their type do not count.
    doubled = 2 * x.astype(np.float64)
    assert same(model, trained(doubled, penalty=penalty, lam=lam))

    sae.export(loaded, "saelens", tmp_path / "exported")
    assert convert.load(tmp_path / "exported").k == 4


def test_a_penalty_may_be_a_function_and_an_option_one_of_an_entry():
    by_name = trained(penalty="off_support_l1", lam=0.1, mask="all")
    by_function = trained(penalty=off_support_l1.penalty, lam=0.1, mask="all")
    assert same(by_name, by_function)
    assert not same(by_name, trained())
    for lam in (0.1, 0.2):
        noisy = [
            trained(penalty=lambda batch: torch.rand(()) * batch.a.sum(1), lam=lam)
            for _ in range(2)
        ]
        assert same(*noisy)
    wide = trained(objective="jumprelu", bandwidth=0.5)
    assert not same(wide, trained(objective="jumprelu"))
    assert wide.metadata["trial"] == {"epochs": 2, "bandwidth": 0.5}


@pytest.mark.parametrize(
    ("said", "steps"), [({}, 100), ({"epochs": 3}, 3), ({"steps": 5}, 5)]
)
def test_few_images_train_for_a_while_unless_it_is_said(said, steps):
    rows = []
    sae.train(embeddings(), 4, 16, progress=rows.append, **said)
    assert rows[-1]["step"] == steps - 1


BROKEN = embeddings()
BROKEN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"x": embeddings()[0]}, ["embeddings", "shape (6,)", "(N, d)"]),
        ({"x": embeddings()[:0]}, ["embeddings", "shape (0, 6)"]),
        ({"x": embeddings()[:, :0]}, ["embeddings", "shape (80, 0)"]),
        ({"x": np.arange(12).reshape(4, 3)}, ["embeddings", "int64"]),
        ({"x": BROKEN}, ["row 3", "NaN"]),
        ({"x": np.ones((9, 6))}, ["all 9 rows are the same", "unit_l2"]),
        ({"penalty": "off_support_l1"}, ["lam is None", "both"]),
        ({"lam": 0.1}, ["penalty is None", "both"]),
        ({"penalty": "l1", "lam": 0.1}, ["no penalty 'l1'", "l1_l2_ratio"]),
        ({"penalty": 3, "lam": 0.1}, ["penalty is 3", "off_support_l1", "function"]),
        ({"objective": "top"}, ["no objective 'top'"]),
        ({"objective": "imported"}, ["made elsewhere", "sae.load"]),
        ({"k": 33}, ["k", "33 is larger than m = 32"]),
        ({"m": 8.5}, ["m is 8.5", "whole number"]),
        ({"lr": -1.0}, ["lr", "-1"]),
        ({"bandwidth": 0.1}, ["'bandwidth' is not known"]),
        ({"lambda": 0.1}, ["'lambda' is not known", "'lam'"]),
        ({"input_norm": "foo"}, ["input_norm", "'foo'", "unit_l2"]),
        ({"device": "abacus"}, ["abacus"]),
        (
            {"penalty": lambda b: b.a.sum(1) * np.nan, "lam": 1.0},
            ["diverged by step", "lower lr than 0.005", "lower lam than 1"],
        ),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(change, parts):
    with pytest.raises(UserError) as caught:
        trained(**change)
    assert_names(str(caught.value), *parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [sae.save, sae.export])
def test_what_is_no_sae_is_not_written(write, tmp_path):
    place = [tmp_path / "place"] if write is sae.save else ["saelens", tmp_path / "p"]
    with refused_naming("takes an SAE, not ndarray", "sae.load"):
        write(embeddings(), *place)
    assert not list(tmp_path.iterdir())
