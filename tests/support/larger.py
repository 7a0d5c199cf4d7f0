"""Make the largest experiment larger still."""

from typing import Any


def enlarge_paper(config: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return the config with `factor` times the lambdas and seeds of `paper`."""
    paper = config["experiments"]["paper"]
    sweep = {
        method: {
            "lambda": [
                value * (1 + step / factor)
                for value in grids["lambda"]
                for step in range(factor)
            ]
        }
        for method, grids in paper["sweep"].items()
    }
    paper = paper | {"sweep": sweep, "seeds": list(range(factor * len(paper["seeds"])))}
    return config | {"experiments": config["experiments"] | {"paper": paper}}
