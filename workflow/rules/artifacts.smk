# Downloads: here, since the machines that run the other jobs may have no internet. The declared output is a small
# manifest: the files themselves survive a rerun.


localrules:
    artifact,
    weights,
    download,
    imported,


# Artifacts are pinned by content.


rule artifact:
    output:
        paths.ARTIFACT,
    log:
        f"{paths.LOGS}/artifact/{{artifact}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    resources:
        code=code_of("artifact"),
    params:
        settings=lambda w: dumps(settings.artifacts()[w.artifact]),
        meaning=meaning_of("artifact"),
    shell:
        f"python -m sae fetch --name {{wildcards.artifact}} --root {paths.ARTIFACTS}"
        f" --settings {{params.settings:q}} {CODE} --log {{log}}"


# Weights named on the Hugging Face hub, into its cache.
rule weights:
    output:
        paths.WEIGHTS,
    log:
        f"{paths.LOGS}/weights/{{backbone}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    resources:
        code=code_of("weights"),
    params:
        settings=lambda w: dumps(settings.weights_plan(cfg, w.backbone)),
        meaning=meaning_of("weights"),
    shell:
        "python -m sae weights --name {wildcards.backbone} --out {output} --settings {params.settings:q}"
        f" {CODE} --log {{log}}"


# SAEs made elsewhere, of methods that say `import`, in this project's form.
rule imported:
    input:
        lambda w: settings.import_files(cfg, w.method),
    output:
        paths.IMPORTED,
    log:
        f"{paths.LOGS}/imported/{{method}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    resources:
        code=code_of("imported"),
    params:
        options=lambda w: settings.import_options(cfg, w.method),
        meaning=meaning_of("imported"),
    shell:
        f"python -m sae import {{params.options}} --out {{output}} {CODE} --log {{log}}"


# Datasets with `download: true`, below their root.
rule download:
    output:
        paths.DOWNLOAD,
    log:
        f"{paths.LOGS}/download/{{dataset}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    resources:
        code=code_of("download"),
    params:
        settings=lambda w: dumps(settings.dataset_spec(cfg, w.dataset)),
        meaning=meaning_of("download"),
    shell:
        "python -m sae download --name {wildcards.dataset} --out {output} --settings {params.settings:q}"
        f" {CODE} --log {{log}}"
