# Downloads: here, since the machines that run the other jobs may have no internet. The
# declared output is a small manifest: the files themselves survive a rerun.


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
        **resources_of("artifact"),
    params:
        settings=lambda w: dumps(settings.artifacts()[w.artifact]),
        meaning=meaning_of("artifact"),
    shell:
        command(
            "artifact",
            f"--name {{wildcards.artifact}} --root {paths.ARTIFACTS}"
            " --spec {params.settings:q}",
        )


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
        **resources_of("weights"),
    params:
        settings=lambda w: dumps(settings.weights_settings(cfg, w.backbone)),
        meaning=meaning_of("weights"),
    shell:
        command(
            "weights",
            "--name {wildcards.backbone} --out {output} --spec {params.settings:q}",
        )


# SAEs made elsewhere, of methods that say `import`, in this project's form.
rule imported:
    input:
        lambda w: external_files.imported_files(cfg, w.method),
    output:
        paths.IMPORTED,
    log:
        f"{paths.LOGS}/imported/{{method}}.log",
    retries: 1
    conda:
        ENVIRONMENT
    resources:
        **resources_of("imported"),
    params:
        options=lambda w: settings.import_options(cfg, w.method),
        meaning=meaning_of(
            "imported", lambda w: external_files.imported_files(cfg, w.method)
        ),
    shell:
        command("imported", "{params.options} --out {output}")


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
        **resources_of("download"),
    params:
        settings=lambda w: dumps(cfg.datasets[w.dataset].spec),
        meaning=meaning_of("download"),
    shell:
        command(
            "download",
            "--name {wildcards.dataset} --out {output} --spec {params.settings:q}",
        )
