"""Images per second of a backbone's forward pass by batch size, on random images: `python bench/embed.py`.

The batch sizes are timed in turn, round after round, so that a machine whose speed drifts slows all of them.
"""

import argparse
import statistics
import time

import timm
import torch


def main():
    """Print the median images/s per batch size, and its ratio to the largest batch's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tf_efficientnet_lite2")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16, 32, 128])
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    model = timm.create_model(a.model).eval().to(memory_format=torch.channels_last)
    images = {b: torch.randn(b, 3, a.size, a.size).contiguous(memory_format=torch.channels_last) for b in a.batch}
    rates = {b: [] for b in a.batch}
    with torch.inference_mode():
        for _ in range(a.rounds + 1):
            for batch, x in images.items():
                start = time.perf_counter()
                for _ in range(128 // batch):
                    model.forward_features(x)
                rates[batch].append(128 // batch * batch / (time.perf_counter() - start))
    medians = {b: statistics.median(r[1:]) for b, r in rates.items()}
    for batch, rate in medians.items():
        print(f"batch {batch:4d}: {rate:6.0f} images/s, {rate / medians[max(medians)]:.2f} of batch {max(medians)}")


if __name__ == "__main__":
    main()
