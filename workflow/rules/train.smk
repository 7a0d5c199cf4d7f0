# One job a cell, a (dataset, backbone, k), trains its SAEs and chooses among them: each
# protocol says which SAEs come next, given what validation says so far. No test image
# is read. Finished SAEs lie in the content-addressed results/store/saes, so that a job
# trains only what is missing; what a later round asks for costs that alone.
rule train:
    input:
        imported_saes,
        **splits_of("train", "val"),
        **splits_of_others("train"),
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
        **resources_of("train"),
        shared=shared_option("store/saes"),
        at_once=f"--threads {COMPUTE.threads} --at-once {COMPUTE.saes_at_once}",
    params:
        settings=lambda w: job_of("train", w).plan.model_dump_json(),
        meaning=meaning_of("train"),
        device=COMPUTE.device,
        activations=lambda w: paths.ACTIVATIONS.format(**w),
        store=paths.STORE,
        scores=lambda w: paths.SCORES.format(**w),
        others=folders_of_others("train"),
    shell:
        command(
            "train",
            "--activations {params.activations} --store {params.store}"
            " --scores {params.scores} --bank {output.bank}"
            " --settings {params.settings:q} --others {params.others}"
            " {resources.shared} {resources.at_once} --device {params.device}",
        )
