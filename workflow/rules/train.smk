# One job a cell, a (dataset, backbone, k), trains its SAEs and chooses among them: each protocol says which SAEs come next,
# given what validation says so far. No test image is read. Finished SAEs lie in the content-addressed results/store/saes,
# so that a job trains only what is missing; what a later round asks for costs that alone.
rule train:
    input:
        imported_of,
        **splits_of("train", "val"),
    output:
        bank=paths.BANK,
        selection=paths.SELECTION,
        validation=paths.VALIDATION,
    log:
        f"{paths.EXPERIMENT_LOGS}/train/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads * COMPUTE.saes_at_once
    resources:
        mem_mb=needs.memory("train"),
        runtime=needs.runtime("train"),
        gpu=GPU,
        code=code_of("train"),
        shared=shared("store/saes"),
        at_once=f"--threads {COMPUTE.threads} --at-once {COMPUTE.saes_at_once}",
    params:
        settings=lambda w: bank_plan(w).model_dump_json(),
        meaning=meaning_of("train"),
        device=COMPUTE.device,
        activations=lambda w: paths.ACTIVATIONS.format(**w),
        store=paths.STORE,
        scores=lambda w: paths.SCORES.format(**w),
    shell:
        "python -m sae train --activations {params.activations} --store {params.store} --selected {params.scores}"
        " --out {output.bank} --settings {params.settings:q} {resources.shared} {resources.at_once}"
        f" --device {{params.device}} {CODE} --log {{log}}"
