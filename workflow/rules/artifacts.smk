# Downloads, pinned by content. The declared output is the small manifest: the files beside it survive a rerun.


localrules:
    artifact,


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
        code=code_hash("sae.fetch"),
    shell:
        "python -m sae fetch --name {wildcards.artifact} --root results/artifacts"
        " --settings {params.settings:q} --log {log}"
