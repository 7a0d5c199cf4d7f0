"""What jobs take: memory in MB, and seconds.

Memory is a base, and so much for each MB of the sizes that a job handles; the figures
are in workflow/resources/costs.yaml (measured: bench/performance_cells.py memory).
Seconds are counted by `sae_workflow.durations`. Each function raises `UnknownSize`
where a size that it needs is not known.
"""

from sae.bank.plan import Plan
from sae.data.splits import SPLITS
from sae.models.sizes import CHUNK, RESIDENT
from sae_workflow import costs, durations, settings
from sae_workflow.durations import Seconds, core_seconds
from sae_workflow.jobs import Job

# {name of a size in costs.yaml: how much of it there is}, in MB but for counts. Those
# of images and latents are in millions.
InputSizes = dict[str, float]
BYTES_OF_MB = 1e6
MILLION = 1e6  # of things that costs.yaml counts in millions
# The value of an activation in float32, and the number of its latent.
BYTES_OF_CODE = 8


def estimate_memory(figures_name: str, sizes: InputSizes) -> float:
    """Return what a job takes, in MB, by the figures of costs.yaml.

    Args:
        figures_name: Under which costs.yaml has them; of most jobs it is their rule.
        sizes: What the job handles; sizes that costs.yaml does not name take nothing.
    """
    figures = costs.cost_table()["memory"]["rules"][figures_name]
    grows_by = {name: figure for name, figure in figures.items() if name != "base"}
    return figures["base"] + sum(
        figure * sizes.get(name, 0) for name, figure in grows_by.items()
    )


# Sizes.


def bank_sizes(embedding: costs.Embedding, plan: Plan) -> InputSizes:
    """Return the sizes of a cell: inputs, codes, an SAE, a chunk's activations."""
    m = costs.largest_width(plan)
    images = embedding.images_by_split
    resident_bytes = {}
    for split in SPLITS:
        # Inputs that are too large for memory stay on disk. What is in memory of them
        # at a time is taken to be a quarter of the bound, an estimate.
        input_bytes = 4 * images[split] * embedding.dimensions
        is_resident = input_bytes <= RESIDENT
        resident_bytes[split] = input_bytes if is_resident else RESIDENT // 4

    codes_bytes = BYTES_OF_CODE * (images["val"] + images["test"]) * plan.k
    # The encoder and the decoder, in float32.
    matrices_bytes = 2 * 4 * m * embedding.dimensions
    return {
        "train": resident_bytes["train"] / BYTES_OF_MB,
        "inputs": sum(resident_bytes.values()) / BYTES_OF_MB,
        "codes": codes_bytes / BYTES_OF_MB,
        "sae": matrices_bytes / BYTES_OF_MB,
        "chunk": 4 * CHUNK * m / BYTES_OF_MB,
    }


def ranking_sizes(
    embedding: costs.Embedding, k: int, judge_count: int, most_images: int
) -> InputSizes:
    """Return the sizes of metrics that rank images.

    These are codes and embeddings of training images, and the embeddings of judges.

    Args:
        embedding: Of the cell.
        k: The budget of the cell.
        judge_count: How many judges there are.
        most_images: How many training images are read, at most.
    """
    images = embedding.images_by_split
    d = embedding.dimensions
    train_images = min(images["train"], most_images)
    # Judges are taken to have as many dimensions as the cell's own backbone.
    bytes_of_judge = 4 * (train_images + images["val"] + images["test"]) * d
    # Codes are held by image and by latent.
    codes_bytes = 2 * BYTES_OF_CODE * train_images * k
    # Not derived: with the other terms it comes near the peaks that were measured
    # (docs/performance.md, "Memory").
    embeddings_bytes = 6 * train_images * d
    all_bytes = codes_bytes + embeddings_bytes + judge_count * bytes_of_judge
    return {"found": all_bytes / BYTES_OF_MB}


def matching_sizes(job: Job) -> InputSizes:
    """Return the size of matching with concepts; {} where no metric of the job does it.

    Annotations take about 1 kB an image with a dozen keywords. A thousand concepts are
    looked at at once, with eight arrays of all latents.
    """
    if not settings.reads_concepts(job.config, job.wildcards.experiment):
        return {}
    annotation_bytes = 1000 * job.embedding.dataset.image_count
    candidate_bytes = 8 * 8 * 1024 * costs.largest_width(job.plan)
    return {"matching": (annotation_bytes + candidate_bytes) / BYTES_OF_MB}


def probe_sizes(
    embedding: costs.Embedding, features: int, fit: costs.ProbeFit
) -> InputSizes:
    """Return the sizes of probes: embeddings, scores of images and classes, weights.

    Args:
        embedding: Whose images are probed.
        features: How many features a probe reads.
        fit: What the probes are fitted on; the number of classes must be known.
    """
    images = embedding.images_by_split
    classes = embedding.dataset.classes
    assert classes is not None
    train_images = min(images["train"], fit.most_images)
    read_images = train_images + images["val"] + images["test"]
    return {
        "read": 4 * read_images * embedding.dimensions / BYTES_OF_MB,
        "scores": 4 * train_images * classes / BYTES_OF_MB,
        "coefficients": 4 * classes * features / BYTES_OF_MB,
    }


# Memory, by what a job does.


def small_memory(_job: Job) -> float:
    """Return the memory of a job that handles nothing large."""
    return estimate_memory("small", {})


def indexing_memory(job: Job) -> float:
    """Return the memory of a job that builds the index of a dataset."""
    sizes = {
        "workers": job.config.compute.decode_workers,
        "images": job.dataset_figures.image_count / MILLION,
    }
    return estimate_memory("dataset", sizes)


def annotating_memory(job: Job) -> float:
    """Return the memory of a job that reads what people call images."""
    sizes = {"images": job.dataset_figures.image_count / MILLION}
    return estimate_memory("dataset", sizes)


def embedding_memory(job: Job) -> float:
    """Return the memory of a job that embeds images."""
    sizes = {
        "workers": job.config.compute.decode_workers,
        # Parameters are counted in millions, each of four bytes.
        "weights": 4 * job.embedding.backbone.parameters,
    }
    return estimate_memory("embed", sizes)


def training_memory(job: Job) -> float:
    """Return the memory of a job that trains SAEs, and scores them on validation.

    One process trains and scores in turn. With several SAEs at once each trains in a
    process of its own, and scoring goes on beside them.
    """
    sizes = bank_sizes(job.embedding, job.plan)
    training = estimate_memory("train", sizes)
    scoring = estimate_memory("score", sizes)
    at_once = job.config.compute.saes_at_once
    if at_once == 1:
        # The inputs of training stay in memory while validation is scored.
        return max(training, scoring) + sizes["train"]
    return at_once * (training + job.gpu_megabytes) + scoring


def scoring_memory(job: Job) -> float:
    """Return the memory of a job that scores the SAEs of a cell."""
    sizes = {
        **bank_sizes(job.embedding, job.plan),
        **ranking_sizes(
            job.embedding,
            job.plan.k,
            judge_count=len(job.judges),
            most_images=costs.most_ranked_images(job.config, job.wildcards.experiment),
        ),
        **matching_sizes(job),
    }
    return estimate_memory("score", sizes)


def reconstructing_memory(job: Job) -> float:
    """Return the memory of a job that reconstructs the images of a cell."""
    return estimate_memory("score", bank_sizes(job.embedding, job.plan))


def probing_memory(job: Job) -> float:
    """Return the memory of a job that probes the SAEs of a cell."""
    m = costs.largest_width(job.plan)
    sizes = {
        **bank_sizes(job.embedding, job.plan),
        **probe_sizes(job.embedding, m, job.probe_fit),
    }
    return estimate_memory("probe", sizes)


def embedding_probe_memory(job: Job) -> float:
    """Return the memory of a job that probes embeddings themselves."""
    sizes = probe_sizes(job.embedding, job.embedding.dimensions, job.probe_fit)
    return estimate_memory("probe_embeddings", sizes)


def collecting_memory(job: Job) -> float:
    """Return the memory of the job that joins all scores of an experiment."""
    plans = costs.list_plans(job.config, job.wildcards.experiment)
    latents = sum(
        costs.count_judged(plan) * costs.largest_width(plan) for plan in plans
    )
    sizes = {
        "latents": latents / MILLION,
        "saes": sum(costs.count_saes(plan) for plan in plans),
    }
    return estimate_memory("collect", sizes)


def gallery_memory(job: Job) -> float:
    """Return the memory of the job that finds the images of galleries."""
    return reconstructing_memory(job.at_gallery_cell())


def site_memory(job: Job) -> float:
    """Return the memory of the job that writes the site.

    It is that of the largest cell, of which an SAE of each method is open at once.
    """
    jobs_of_cells = job.at_each_cell()
    sizes_of_cells = [bank_sizes(at.embedding, at.plan) for at in jobs_of_cells]
    largest_sizes = {
        name: max(sizes[name] for sizes in sizes_of_cells) for name in sizes_of_cells[0]
    }
    method_count = len(jobs_of_cells[0].plan.methods)
    largest_sizes["sae"] *= method_count
    return estimate_memory("score", largest_sizes)


# Seconds, by what a job does.


def indexing_seconds(job: Job) -> Seconds:
    """Return what it takes to build the index of a dataset, which decodes images."""
    # First, since it raises where a size is unknown: such a dataset takes some time.
    seconds = durations.decoding_seconds(job.dataset_figures)
    if not job.config.datasets[job.wildcards.dataset].has_images:
        return Seconds()
    return seconds


def embedding_seconds(job: Job) -> Seconds:
    """Return what it takes to embed a dataset; to join its shards takes nothing."""
    # First, since it raises where a size is unknown.
    seconds = durations.embedding_seconds(job.embedding)
    if job.config.compute.embed_shards > 1:
        return Seconds()
    return seconds


def shard_seconds(job: Job) -> Seconds:
    """Return what it takes to embed one shard of a dataset."""
    shard_count = job.config.compute.embed_shards
    return durations.embedding_seconds(job.embedding) / shard_count


def training_seconds(job: Job) -> Seconds:
    """Return what it takes to train the SAEs of a cell, and to encode validation."""
    training = Seconds()
    for sizes in costs.protocol_sizes(job.plan):
        for method, sae_count in sizes.by_method.items():
            training += sae_count * durations.training_seconds(
                job.embedding, job.plan, method, sizes.most_steps
            )
    encoding = job.embedding.images_by_split["val"] * job.seconds_to_encode
    return training + costs.count_saes(job.plan) * encoding


def scoring_seconds(job: Job) -> Seconds:
    """Return what it takes to score the SAEs of a cell.

    Each SAE encodes all splits, and judges rank images for its latents. One that a
    protocol chose to be judged is also scored on test by each judge.
    """
    images = job.embedding.images_by_split
    held_out_images = images["val"] + images["test"]
    judge_count = len(job.judges)
    encoding = job.seconds_to_encode
    # Monosemanticity of an image's k activations, by the d dimensions of a backbone.
    ms_of_image = core_seconds(
        2 * job.plan.k * job.embedding.dimensions / 1e9 / costs.rate("sparse")
    )

    of_each_sae = sum(images.values()) * encoding + held_out_images * ms_of_image
    rankings = judge_count * costs.count_rankings(job.config, job.wildcards.experiment)
    m = costs.largest_width(job.plan)
    ranked_millions = rankings * m * held_out_images / 1e6
    of_each_sae += core_seconds(ranked_millions * costs.rate("rank"))

    sae_count = costs.count_saes(job.plan)
    judged_images = costs.count_judged(job.plan) * images["test"]
    of_judged_image = encoding + (1 + judge_count) * ms_of_image
    return sae_count * of_each_sae + judged_images * of_judged_image


def robustness_seconds(job: Job) -> Seconds:
    """Return what it takes to reconstruct test images at other k than trained with."""
    test_images = job.embedding.images_by_split["test"]
    # Twice: coders that are no Top-k encode once more, at their own L0.
    encoded_images = costs.count_judged(job.plan) * 2 * test_images
    return encoded_images * job.seconds_to_encode


def probing_seconds(job: Job) -> Seconds:
    """Return what it takes to probe the codes of the judged SAEs of a cell."""
    images = job.embedding.images_by_split
    train_images = min(images["train"], job.probe_fit.most_images)
    read_images = train_images + images["val"] + images["test"]
    of_each_sae = read_images * job.seconds_to_encode
    of_each_sae += durations.code_probe_seconds(job.embedding, job.probe_fit)
    return costs.count_judged(job.plan) * of_each_sae


def embedding_probe_seconds(job: Job) -> Seconds:
    """Return what it takes to probe embeddings themselves."""
    return durations.embedding_probe_seconds(job.embedding, job.probe_fit)


def site_seconds(job: Job) -> Seconds:
    """Return what it takes an SAE of each method of each cell to encode test images."""
    return durations.total(
        len(at.plan.methods)
        * at.embedding.images_by_split["test"]
        * at.seconds_to_encode
        for at in job.at_each_cell()
    )


# Cores.


def decoding_cores(job: Job) -> int:
    """Return how many cores decode images where that is all that a job does."""
    return max(1, job.config.compute.decode_workers)


def cores_beside_embedding(job: Job) -> int:
    """Return how many cores decode images for a GPU that embeds them."""
    return max(job.config.compute.threads, job.config.compute.decode_workers)


def training_cores(job: Job) -> int:
    """Return how many cores train, several SAEs at once."""
    return job.config.compute.threads * job.config.compute.saes_at_once
