"""What the benches write: rows {goal, what, ours, peer, peer_value, ratio, target, met, machine}, as JSON."""

import platform
from pathlib import Path
from typing import Any

import torch

from sae.core import files

OUT = Path("results/bench")


def machine(threads: int) -> str:
    """This machine in words, and what it runs."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = next(
        (
            line.partition(": ")[2]
            for line in said.splitlines()
            if line.startswith("model name")
        ),
        "",
    )
    half = (
        "bfloat16 products"
        if "avx512_bf16" in said or "amx_bf16" in said
        else "no bfloat16 products"
    )
    name = f"{cpu or platform.machine()} ({half}), {threads} threads"
    return f"{name}, Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"


def row(
    goal: str,
    what: str,
    ours: float,
    peer: str,
    peer_value: float,
    target: float,
    where: str,
) -> dict[str, Any]:
    """A comparison of two medians; it is met if ours is at most `target` times the peer's."""
    ratio = ours / peer_value
    numbers = {
        "ours": round(ours, 3),
        "peer_value": round(peer_value, 3),
        "ratio": round(ratio, 3),
    }
    words = {"goal": goal, "what": what, "peer": peer, "machine": where}
    return words | numbers | {"target": target, "met": ratio <= target}


def write(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write `out`/`name`.json, and gather all such files there into summary.json, a list."""
    files.write_json(out / f"{name}.json", {"rows": rows})
    found = sorted(path for path in out.glob("*.json") if path.name != "summary.json")
    every = [row for path in found for row in files.read_json(path, "bench")["rows"]]
    files.write_text(out / "summary.json", files.dumps(every) + "\n")
