"""Comparisons that benches write as JSON, and the machine that they ran on."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sae.core import files

OUT = Path("results/bench")


@dataclass(frozen=True)
class Comparison:
    """Two medians; the goal is met if ours is at most `target` times the peer's.

    Attributes:
        goal: The goal's number or name, of the table in docs/performance.md.
        quantity: What was measured, with its unit and size.
        ours: Our median.
        peer: The thing that ours is compared with.
        peer_value: Its median.
        target: The largest ratio that meets the goal.
        machine: Of :func:`machine`.
    """

    goal: str
    quantity: str
    ours: float
    peer: str
    peer_value: float
    target: float
    machine: str

    def as_row(self) -> dict[str, Any]:
        """Return the comparison as it is written, with its ratio."""
        # Medians may be NumPy's, whose truth values are not JSON's.
        ratio = float(self.ours / self.peer_value)
        return {
            "goal": self.goal,
            "what": self.quantity,
            "peer": self.peer,
            "machine": self.machine,
            "ours": round(float(self.ours), 3),
            "peer_value": round(float(self.peer_value), 3),
            "ratio": round(ratio, 3),
            "target": self.target,
            "met": ratio <= self.target,
        }


def machine(threads: int) -> str:
    """Describe this machine in words, and the versions that it runs."""
    cpu_file = Path("/proc/cpuinfo")
    cpu_text = cpu_file.read_text() if cpu_file.exists() else ""
    cpu = platform.machine()
    for line in cpu_text.splitlines():
        if line.startswith("model name"):
            cpu = line.partition(": ")[2] or cpu
            break

    has_bfloat16 = "avx512_bf16" in cpu_text or "amx_bf16" in cpu_text
    half = "bfloat16 products" if has_bfloat16 else "no bfloat16 products"
    torch_version = torch.__version__.partition("+")[0]
    versions = f"Python {platform.python_version()}, torch {torch_version}"
    return f"{cpu} ({half}), {threads} threads, {versions}"


def write(out: Path, name: str, comparisons: list[Comparison]) -> None:
    """Write `out`/`name`.json, and gather all such files there into summary.json."""
    rows = [comparison.as_row() for comparison in comparisons]
    files.write_json(out / f"{name}.json", {"rows": rows})
    all_rows = []
    for path in sorted(out.glob("*.json")):
        if path.name != "summary.json":
            all_rows += files.read_json(path, "bench")["rows"]
    files.write_text(out / "summary.json", files.dumps(all_rows) + "\n")
