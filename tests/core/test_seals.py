import hashlib
import json
import random

import pandas as pd
import pytest

from sae.core import files, seals
from sae.core.errors import UserError

TABLE = pd.DataFrame(
    {
        "method": ["topk", "reg1", None],
        "r2": [0.5, 0.25, float("nan")],
        "alive": [3, 4, 5],
    }
)


def test_the_digits_are_the_hash_of_the_file_with_zeros_in_their_place(tmp_path):
    files.write_json(tmp_path / "a.json", {"lambda": 0.003})
    text = (tmp_path / "a.json").read_text()
    digits = json.loads(text)["seal"].removeprefix("sha256-of-the-rest:")
    assert hashlib.sha256(text.replace(digits, "0" * 64).encode()).hexdigest() == digits
    assert files.read_json(tmp_path / "a.json") == {"lambda": 0.003}


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_no_flipped_bit_is_believed(tmp_path, kind):
    file = tmp_path / f"file.{kind}"
    if kind == "json":
        files.write_json(
            file, {"lambda": 0.003, "saes": [{"path": "topk", "sha256": "0" * 64}]}
        )
    else:
        files.write_parquet(file, TABLE)
    read_file = {"json": files.read_json, "parquet": files.read_parquet}[kind]
    content = file.read_bytes()
    before = read_file(file)
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=f"file.{kind}"):
            read_file(file)
    for cut in (b"", content[:100], content + b"\n"):
        file.write_bytes(cut)
        with pytest.raises(UserError, match=f"file.{kind}"):
            read_file(file)
    file.write_bytes(content)
    assert str(read_file(file)) == str(before)


def test_other_programs_read_sealed_files(tmp_path):
    files.write_parquet(tmp_path / "table.parquet", TABLE)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), TABLE)
    pd.testing.assert_frame_equal(files.read_parquet(tmp_path / "table.parquet"), TABLE)
    once = (tmp_path / "table.parquet").read_bytes()
    files.write_parquet(tmp_path / "table.parquet", TABLE)
    assert (tmp_path / "table.parquet").read_bytes() == once


def test_sums_of_files_that_cannot_hold_a_seal(tmp_path):
    (tmp_path / "claims.csv").write_text("claim,measured\nms,0.5\n")
    files.write_sums(tmp_path / "claims.sums.json", [tmp_path / "claims.csv"])
    files.check_sums(tmp_path / "claims.sums.json")
    (tmp_path / "claims.csv").write_text("claim,measured\nms,0.6\n")
    with pytest.raises(
        UserError, match=r"claims.csv was altered.*claims.sums.json says"
    ):
        files.check_sums(tmp_path / "claims.sums.json")
    (tmp_path / "claims.csv").unlink()
    with pytest.raises(UserError, match=r"claims.csv is missing"):
        files.check_sums(tmp_path / "claims.sums.json")


def test_a_text_that_looks_like_a_seal_is_refused_when_written(tmp_path):
    with pytest.raises(ValueError, match="2 seals"):
        files.write_json(tmp_path / "a.json", {"text": seals.BLANK})
    assert not (tmp_path / "a.json").exists()
