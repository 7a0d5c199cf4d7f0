# Images to embeddings. The index fixes splits and row order once, for every backbone.


rule dataset:
    input:
        lambda w: artifact_files(config["datasets"][w.dataset]),
    output:
        "results/datasets/{dataset}/index.parquet",
        "results/datasets/{dataset}/manifest.json",
    log:
        "results/logs/dataset/{dataset}.log",
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(config["datasets"][w.dataset]),
        code=lambda w: code_hash("sae.data.dataset", settings.dataset_module(config, w.dataset)),
    shell:
        "python -m sae dataset --name {wildcards.dataset} --artifacts results/artifacts"
        " --out results/datasets/{wildcards.dataset} --settings {params.settings:q} --log {log}"


rule embed:
    input:
        "results/datasets/{dataset}/index.parquet",
        "results/datasets/{dataset}/manifest.json",
        lambda w: artifact_files(config["datasets"][w.dataset], config["backbones"][w.backbone]),
        lambda w: settings.local_weights(config, w.backbone),
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
    threads: COMPUTE["threads"]
    params:
        settings=lambda w: dumps(settings.embed_plan(config, w.dataset, w.backbone)),
        code=lambda w: code_hash(
            "sae.data.embed",
            settings.dataset_module(config, w.dataset),
            settings.backbone_module(config, w.backbone),
        ),
        device=COMPUTE["device"],
    shell:
        "python -m sae embed --dataset results/datasets/{wildcards.dataset} --artifacts results/artifacts"
        " --out results/activations/{wildcards.dataset}/{wildcards.backbone} --settings {params.settings:q}"
        " --threads {threads} --device {params.device} --log {log}"
