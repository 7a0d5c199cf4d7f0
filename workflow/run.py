"""Run an experiment and show its result: what `make demo` calls.

After a SIGKILL, Snakemake leaves a lock behind; it is removed here, but only when its owner is proven gone.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from workflow import lock


def main(experiment, *options):
    """Run `snakemake EXPERIMENT OPTIONS` in this folder, then print where the results are, and the table."""
    if any(Path(".snakemake/locks").glob("*.lock")):
        gone, why = lock.owner_is_gone(".snakemake")
        if not gone:
            sys.exit(
                f"error: this folder is locked by a run: {why}. Wait for it or stop it; if you are sure that it is "
                "gone, run `.venv/bin/snakemake --unlock`."
            )
        print("A killed run left its lock; its owner is gone: unlocking.", flush=True)
        subprocess.run(["snakemake", "--unlock", "--quiet", "all"], check=True)
    code = subprocess.run(["snakemake", experiment, *options]).returncode
    if code:
        sys.exit(code)
    show(Path("results") / experiment)


def show(results):
    """Print the experiment's tables and figures, and Table 1 itself."""
    print((results / "tables/table1.md").read_text().split("\n# Published")[0])
    for kind in ("tables", "figures"):
        print(f"{kind}: " + ", ".join(str(f) for f in sorted((results / kind).iterdir())))
    print(f"metrics: {results / 'metrics.csv'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
