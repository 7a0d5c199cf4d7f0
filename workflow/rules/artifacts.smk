# Downloads: here, since the machines that run the other jobs may have no internet. The declared output is a small
# manifest: the files themselves survive a rerun.


localrules:
    artifact,
    weights,
    download,


# Artifacts are pinned by content.


rule artifact:
    output:
        "results/artifacts/{artifact}/artifact.json",
    log:
        "results/logs/artifact/{artifact}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(settings.artifacts()[w.artifact]),
        code=code_hash("sae.data.fetch"),
    shell:
        "python -m sae fetch --name {wildcards.artifact} --root results/artifacts"
        " --settings {params.settings:q} --log {log}"


# Weights named on the Hugging Face hub, into its cache.
rule weights:
    output:
        "results/weights/{backbone}.json",
    log:
        "results/logs/weights/{backbone}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(settings.weights_plan(config, w.backbone)),
        code=lambda w: code_hash("sae.data.weights", settings.backbone_module(config, w.backbone)),
    shell:
        "python -m sae weights --name {wildcards.backbone} --out {output} --settings {params.settings:q} --log {log}"


# Datasets with `download: true`, below their root.
rule download:
    output:
        "results/datasets/{dataset}/download.json",
    log:
        "results/logs/download/{dataset}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(config["datasets"][w.dataset]),
        code=lambda w: code_hash("sae.data.download", settings.dataset_module(config, w.dataset)),
    shell:
        "python -m sae download --name {wildcards.dataset} --out {output} --settings {params.settings:q} --log {log}"
