# Downloads: here, since the machines that run the other jobs may have no internet. The declared output is a small
# manifest: the files themselves survive a rerun.


localrules:
    artifact,
    weights,
    download,


# Artifacts are pinned by content.


rule artifact:
    output:
        paths.ARTIFACT,
    log:
        f"{paths.LOGS}/artifact/{{artifact}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(settings.artifacts()[w.artifact]),
        code=code_hash("sae.data.fetch"),
    shell:
        f"python -m sae fetch --name {{wildcards.artifact}} --root {paths.ARTIFACTS}"
        " --settings {params.settings:q} --log {log}"


# Weights named on the Hugging Face hub, into its cache.
rule weights:
    output:
        paths.WEIGHTS,
    log:
        f"{paths.LOGS}/weights/{{backbone}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(settings.weights_plan(cfg, w.backbone)),
        code=lambda w: code_hash("sae.data.weights", settings.backbone_module(cfg, w.backbone)),
    shell:
        "python -m sae weights --name {wildcards.backbone} --out {output} --settings {params.settings:q} --log {log}"


# Datasets with `download: true`, below their root.
rule download:
    output:
        paths.DOWNLOAD,
    log:
        f"{paths.LOGS}/download/{{dataset}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    params:
        settings=lambda w: dumps(settings.dataset_spec(cfg, w.dataset)),
        code=lambda w: code_hash("sae.data.download", settings.dataset_module(cfg, w.dataset)),
    shell:
        "python -m sae download --name {wildcards.dataset} --out {output} --settings {params.settings:q} --log {log}"
