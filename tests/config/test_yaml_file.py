"""Files of YAML and JSON: what they may not say is refused with the line."""

import re

import pytest
import yaml
from config.common import config_with, refusal_of

from sae.config.load import read_config
from sae.config.yaml_file import parse_file
from sae.core.errors import UserError


def test_yaml_errors_name_file_and_line(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, pattern in (
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4.*'b' is there twice"),
        ("a: [1\nb: 2\n", "line 2.*close every bracket"),
        ("a:\n  b: 1\n c: 2\n", "line 3.*same number of spaces"),
        ('a: "b\n', "line 2.*a quote is not closed"),
        ("[1]", "expected keys"),
        ("a:\n\tb: 1\n", "line 2.*a tab: indent by spaces"),
        ("a: 1\nb: @c\n", "line 2.*that character in quotes"),
        ("a: \t@b\n", "line 1.*a tab: write spaces"),
        ("a: b: c\n", "line 1.*a colon in quotes"),
        ("a: 1\nb: !!python/name:os.system\n", "line 2.*constructor"),
        ("a: {[b]: 1}\n", "line 1.*unhashable"),
        (
            "x: {k: 1, l: [{m: 1, n: 2, m: 3}]}\n",
            "line 1.*'m' is there twice, first in line 1",
        ),
        ("a: -010\n", "line 1.*-010 is a number of base 8"),
        ("a: {b: 190:20:30.15}\n", "line 1.*190:20:30.15 is"),
        ("010: 1\n", "line 1.*010 is a number of base 8"),
        (
            "a: &a 1\nb: [*a]\n",
            r"line 2 .*: \*a is not allowed here: write it out, or `extends: NAME`",
        ),
        (
            "a: &a {b: 1}\nc:\n  <<: *a\n",
            "line 3 .*: << is not allowed here: write `extends: NAME`",
        ),
        (
            f"a: {'[' * 300_000}",
            "line 1.*nested more than 50 deep",
        ),  # libyaml itself would end Python.
        ("a: 2024-13-45\n", "month must be in"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=f"(?s)mine.yaml.*{pattern}"):
            parse_file(file)
    file.write_text('{"a": ' * 100 + "1" + "}" * 100)  # Python's JSON takes it.
    with pytest.raises(
        UserError, match=r"config key a\.a\.a.*nested more than 50 deep"
    ):
        read_config(file)
    # What Snakemake takes for JSON need not be YAML.
    file.write_text('{"a":\n\t"\\ud83d\\ude00"}')
    assert parse_file(file) == {"a": "\N{GRINNING FACE}"}
    (tmp_path / "tag.yaml").write_text("m: !!bool x\n")
    with pytest.raises(UserError, match=r"tag\.yaml cannot be read: KeyError: 'x'"):
        parse_file(tmp_path / "tag.yaml")
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read"):
        parse_file(tmp_path / "nowhere.yaml")


def test_what_json_lacks_is_refused():
    raw = config_with(
        {
            "datasets/cifar100/train": {
                "since": yaml.safe_load("2020-01-01"),
                "x": [float("nan")],
            }
        }
    )
    message = refusal_of(raw)
    assert re.search(
        r"datasets\.cifar100\.train\.since: .*date; put it in quotes", message
    )
    assert "datasets.cifar100.train.x.0: nan is not allowed" in message
    assert "experiments.True: YAML reads this key as bool" in refusal_of(
        config_with({"experiments": yaml.safe_load("on: {}")})
    )


def test_numbers_of_base_ten_and_texts_are_read(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: ['010', \"1:30\", 0, 0.5, 0x1F, 10, a:30, 2026-01-02x]\n")
    expected = ["010", "1:30", 0, 0.5, 31, 10, "a:30", "2026-01-02x"]
    assert parse_file(file) == {"a": expected}


def test_a_rate_that_float32_does_not_have_is_refused():
    for rate in (1e-40, 5e-324):
        message = refusal_of(config_with({"training/small/lr": rate}))
        assert "training.small.lr" in message
        assert "float32 has no such small number" in message
