# Images to embeddings. The index fixes splits and row order once, for every backbone.


rule dataset:
    input:
        lambda w: images_of(w.dataset),
        lambda w: settings.tables(config, w.dataset),
    output:
        "results/datasets/{dataset}/index.parquet",
        "results/datasets/{dataset}/manifest.json",
    log:
        "results/logs/dataset/{dataset}.log",
    conda:
        ENVIRONMENT
    threads: max(1, COMPUTE["decode_workers"])
    resources:
        mem_mb=needs.memory("dataset"),
        runtime=needs.runtime("dataset"),
        workers=COMPUTE["decode_workers"],
    params:
        settings=lambda w: dumps(config["datasets"][w.dataset]),
        code=lambda w: code_hash("sae.data.dataset", settings.dataset_module(config, w.dataset)),
    shell:
        "python -m sae dataset --name {wildcards.dataset} --artifacts results/artifacts"
        " --out results/datasets/{wildcards.dataset} --settings {params.settings:q} --workers {resources.workers}"
        " --log {log}"


# With several shards, each is a job that leaves its part in an undeclared folder, from which it takes up again after a
# kill; the last job joins the parts. Shards and workers change no result, so they are resources, not parameters.
SHARDS = COMPUTE["embed_shards"]
EMBED = (
    "python -m sae embed --dataset results/datasets/{wildcards.dataset} --artifacts results/artifacts"
    " --out results/activations/{wildcards.dataset}/{wildcards.backbone} --settings {params.settings:q}"
    " --threads {params.threads} --device {params.device} --workers {resources.workers} --shards {resources.shards}"
    " {resources.shared}"
    " --log {log}"
)


rule embed_shard:
    input:
        embed_inputs,
    output:
        temp(touch("results/activations/{dataset}/{backbone}/.shards/{shard}-of-{shards}")),
    log:
        "results/logs/embed/{dataset}/{backbone}/{shard}-of-{shards}.log",
    benchmark:
        "results/benchmarks/embed/{dataset}/{backbone}/{shard}-of-{shards}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"] + COMPUTE["decode_workers"]
    resources:
        mem_mb=needs.memory("embed"),
        runtime=needs.runtime("embed"),
        gpu=GPU,
        workers=COMPUTE["decode_workers"],
        shards=SHARDS,
        shared=lambda w: shared(f"activations/{w.dataset}/{w.backbone}"),
    params:
        settings=lambda w: dumps(settings.embed_plan(config, w.backbone)),
        code=embed_code,
        threads=COMPUTE["threads"],
        device=COMPUTE["device"],
    shell:
        f"{EMBED} --shard {{wildcards.shard}}"


rule embed:
    input:
        embed_inputs,
        lambda w: [
            f"results/activations/{w.dataset}/{w.backbone}/.shards/{shard}-of-{SHARDS}"
            for shard in (range(SHARDS) if SHARDS > 1 else [])
        ],
    output:
        expand(
            "results/activations/{{dataset}}/{{backbone}}/{split}/{file}",
            split=SPLITS,
            file=("embeddings.npy", "index.parquet", "manifest.json"),
        ),
    log:
        "results/logs/embed/{dataset}/{backbone}.log",
    benchmark:
        "results/benchmarks/embed/{dataset}/{backbone}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"] + COMPUTE["decode_workers"]
    resources:
        mem_mb=needs.memory("embed"),
        runtime=needs.runtime("embed"),
        gpu=GPU,
        workers=COMPUTE["decode_workers"],
        shards=SHARDS,
        shared=lambda w: shared(f"activations/{w.dataset}/{w.backbone}"),
    params:
        settings=lambda w: dumps(settings.embed_plan(config, w.backbone)),
        code=embed_code,
        threads=COMPUTE["threads"],
        device=COMPUTE["device"],
    shell:
        EMBED
