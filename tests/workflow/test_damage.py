"""One flipped bit anywhere under results/ is an error, or it changes no result."""

import collections
import json
import re
import sys

import pytest
from conftest import ROOT

COUNT = 200
SEED = 20261125
JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)Shell command: (.*)$", re.M)


def jobs_of(text):
    """Return rule, inputs, outputs and command of each job that a dry run prints."""
    jobs = []
    for rule, lines, command in JOB.findall(text):
        fields = dict(line.strip().split(": ", 1) for line in lines.splitlines())
        if command.startswith(("python", "PYTHON")):
            job = {
                "rule": rule,
                "command": command,
                "inputs": fields.get("input", "").split(", "),
                "outputs": fields.get("output", "").split(", "),
            }
            jobs.append(job)
    return jobs


@pytest.mark.slow
def test_no_damaged_byte_gives_another_number(make_checkout):
    checkout = make_checkout()
    checkout.snakemake("tiny")
    jobs = jobs_of(checkout.snakemake("-n", "--forceall", "--printshellcmds", "tiny"))
    assert len(jobs) == 15
    settings = json.dumps({"jobs": jobs, "seed": SEED, "count": COUNT})
    program = ROOT / "tests/workflow/damage.py"
    process = checkout.run(sys.executable, program, input=settings)
    assert process.returncode == 0, process.stderr
    damages = json.loads(process.stdout)
    wrong = [
        damage for damage in damages if set(damage["outcomes"]) - {"error", "same"}
    ]
    assert len(damages) == COUNT and not wrong, json.dumps(wrong, indent=1)
    counts = collections.Counter(
        outcome for damage in damages for outcome in damage["outcomes"]
    )
    assert counts["error"] > COUNT / 2 and counts["same"], counts
