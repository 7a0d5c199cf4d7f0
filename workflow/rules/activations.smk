# Images to embeddings. The index fixes splits and row order once, for every backbone.


rule dataset:
    input:
        lambda w: images_of(w.dataset),
        lambda w: settings.dataset_files(cfg, w.dataset),
    output:
        paths.INDEX,
        manifest=paths.DATASET,
    log:
        f"{paths.LOGS}/dataset/{{dataset}}.log",
    conda:
        ENVIRONMENT
    threads: max(1, COMPUTE.decode_workers)
    resources:
        mem_mb=needs.memory("dataset"),
        runtime=needs.runtime("dataset"),
        workers=COMPUTE.decode_workers,
        code=code_of("dataset"),
    params:
        settings=lambda w: dumps(settings.dataset_spec(cfg, w.dataset)),
        # Only looked at, so that another image builds the index anew.
        images=lambda w: listing.of(cfg.datasets[w.dataset]),
        meaning=meaning_of("dataset"),
        artifacts=paths.ARTIFACTS,
        out=lambda w, output: Path(output.manifest).parent,
    shell:
        "python -m sae dataset --name {wildcards.dataset} --artifacts {params.artifacts} --out {params.out}"
        f" --settings {{params.settings:q}} --workers {{resources.workers}} {CODE} --log {{log}}"


# With several shards, each is a job that leaves its part in an undeclared folder, from which it takes up again after a
# kill; the last job joins the parts. Shards and workers change no result, so they are resources, not parameters.
SHARDS = COMPUTE.embed_shards
EMBED = (
    "python -m sae embed --dataset {params.dataset} --artifacts {params.artifacts} --out {params.out}"
    " --settings {params.settings:q} --threads {params.threads} --device {params.device}"
    f" --workers {{resources.workers}} --shards {{resources.shards}} {{resources.shared}} {CODE} --log {{log}}"
)
EMBED_RESOURCES = {
    "mem_mb": needs.memory("embed"),
    "runtime": needs.runtime("embed"),
    "gpu": GPU,
    "workers": COMPUTE.decode_workers,
    "shards": SHARDS,
    "shared": lambda w: shared(f"activations/{w.dataset}/{w.backbone}"),
    "code": code_of("embed"),
}
EMBED_PARAMS = {
    "settings": lambda w: dumps(settings.embed_plan(cfg, w.backbone)),
    "meaning": meaning_of("embed"),
    "threads": COMPUTE.threads,
    "device": COMPUTE.device,
    "artifacts": paths.ARTIFACTS,
    "dataset": lambda w: paths.DATASETS.format(**w),
    "out": lambda w: paths.ACTIVATIONS.format(**w),
}


rule embed_shard:
    input:
        embed_inputs,
    output:
        temp(touch(paths.SHARD)),
    log:
        f"{paths.LOGS}/embed/{{dataset}}/{{backbone}}/{{shard}}-of-{{shards}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads + COMPUTE.decode_workers
    resources:
        **EMBED_RESOURCES,
    params:
        **EMBED_PARAMS,
    shell:
        f"{EMBED} --shard {{wildcards.shard}}"


rule embed:
    input:
        embed_inputs,
        lambda w: at(paths.SHARD, shard=range(SHARDS), shards=SHARDS, **w) if SHARDS > 1 else [],
    output:
        at([paths.EMBEDDINGS, paths.EMBEDDINGS_INDEX, paths.EMBEDDINGS_MANIFEST], split=SPLITS),
    log:
        f"{paths.LOGS}/embed/{{dataset}}/{{backbone}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads + COMPUTE.decode_workers
    resources:
        **EMBED_RESOURCES,
    params:
        **EMBED_PARAMS,
    shell:
        EMBED
