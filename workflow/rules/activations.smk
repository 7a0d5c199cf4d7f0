# Images to embeddings. The index fixes splits and row order once, for every backbone.


rule dataset:
    input:
        lambda w: image_manifests(w.dataset),
        lambda w: external_files.dataset_files(cfg, w.dataset),
    output:
        paths.INDEX,
        manifest=paths.DATASET,
    log:
        f"{paths.LOGS}/dataset/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: max(1, COMPUTE.decode_workers)
    resources:
        **resources_of("dataset"),
        workers=COMPUTE.decode_workers,
    params:
        settings=lambda w: dumps(cfg.datasets[w.dataset].spec),
        # Only looked at, so that another image builds the index anew.
        images=lambda w: file_fingerprints.fingerprint_images(cfg.datasets[w.dataset]),
        meaning=meaning_of(
            "dataset", lambda w: external_files.dataset_files(cfg, w.dataset)
        ),
        artifacts=paths.ARTIFACTS,
        out=lambda w, output: Path(output.manifest).parent,
    shell:
        command(
            "dataset",
            "--name {wildcards.dataset} --artifacts {params.artifacts}"
            " --out {params.out} --spec {params.settings:q}"
            " --workers {resources.workers}",
        )


# What people call the images, and in what they differ; no embedding depends on it.
rule annotate:
    input:
        lambda w: artifact_manifests(cfg.datasets[w.dataset].concepts),
        lambda w: external_files.concept_files(cfg, w.dataset),
        index=paths.INDEX,
        manifest=paths.DATASET,
    output:
        paths.CONCEPT_TABLES,
        manifest=paths.CONCEPTS,
    log:
        f"{paths.LOGS}/annotate/{{dataset}}.log",
    conda:
        ENVIRONMENT
    resources:
        **resources_of("annotate"),
    params:
        settings=lambda w: dumps(cfg.datasets[w.dataset].concepts.spec),
        meaning=meaning_of(
            "annotate", lambda w: external_files.concept_files(cfg, w.dataset)
        ),
        artifacts=paths.ARTIFACTS,
        dataset=lambda w: paths.DATASETS.format(**w),
    shell:
        command(
            "annotate",
            "--dataset {params.dataset} --spec {params.settings:q}"
            " --artifacts {params.artifacts}",
        )


# With several shards, each is a job that leaves its part in an undeclared folder, from
# which it takes up again after a kill; the last job joins the parts. Shards and workers
# change no result, so they are resources, not parameters.
SHARDS = COMPUTE.embed_shards
EMBED = command(
    "embed",
    "--dataset {params.dataset} --artifacts {params.artifacts} --out {params.out}"
    " --name {wildcards.backbone} --batch-size {params.batch_size}"
    " --spec {params.settings:q} --threads {params.threads} --device {params.device}"
    " --workers {resources.workers} --shards {resources.shards} {resources.shared}",
)
EMBED_RESOURCES = {
    "workers": COMPUTE.decode_workers,
    "shards": SHARDS,
    "shared": lambda w: shared_option(f"activations/{w.dataset}/{w.backbone}"),
}
EMBED_PARAMS = {
    "settings": lambda w: dumps(cfg.backbones[w.backbone].spec),
    "batch_size": COMPUTE.embed_batch_size,
    "meaning": meaning_of("embed", external_files_to_embed),
    "threads": COMPUTE.threads,
    "device": COMPUTE.device,
    "artifacts": paths.ARTIFACTS,
    "dataset": lambda w: paths.DATASETS.format(**w),
    "out": lambda w: paths.ACTIVATIONS.format(**w),
}


rule embed_shard:
    input:
        inputs_to_embed,
    output:
        temp(touch(paths.SHARD)),
    log:
        f"{paths.LOGS}/embed/{{dataset}}/{{backbone}}/{{shard}}-of-{{shards}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads + COMPUTE.decode_workers
    resources:
        **resources_of("embed_shard"),
        **EMBED_RESOURCES,
    params:
        **EMBED_PARAMS,
    shell:
        f"{EMBED} --shard {{wildcards.shard}}"


rule embed:
    input:
        inputs_to_embed,
        lambda w: (
            fill_in(paths.SHARD, shard=range(SHARDS), shards=SHARDS, **w)
            if SHARDS > 1
            else []
        ),
    output:
        fill_in(
            [paths.EMBEDDINGS, paths.EMBEDDINGS_INDEX, paths.EMBEDDINGS_MANIFEST],
            split=SPLITS,
        ),
    log:
        f"{paths.LOGS}/embed/{{dataset}}/{{backbone}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads + COMPUTE.decode_workers
    resources:
        **resources_of("embed"),
        **EMBED_RESOURCES,
    params:
        **EMBED_PARAMS,
    shell:
        EMBED
