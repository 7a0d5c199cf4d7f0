# Scores, a rule a stage. Which metrics a stage computes is for `metrics` in config.yaml
# and for the metrics themselves to say. Each keeps what it has computed in an
# undeclared file beside the declared tables, and computes only rows whose SAE, data,
# code or options are new. One more job joins all banks into the experiment's tidy
# tables.
SCORE = command(
    "score",
    "--stage {params.stage} --bank {input.bank} --activations {params.activations}"
    " --out {params.out} --settings {params.settings:q} --threads {threads}"
    " --device {params.device}",
)


# Reconstruction, monosemanticity, class purity and what else is cheap of every SAE of a
# cell; of those that a protocol chose to be judged also what other backbones see of
# them, and their latents one by one.
rule score:
    input:
        **splits_of(*SPLITS),
        **splits_of_others("score"),
        concepts=concept_tables,
        bank=rules.train.output.bank,
    output:
        stage_tables("score"),
    log:
        f"{paths.EXPERIMENT_LOGS}/score/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("score"),
    params:
        **stage_params("score"),
        # The last of them is no other backbone: a parameter more would run all jobs of
        # before again.
        others=lambda w: folders_of_others("score")(w) + concepts_option(w),
    shell:
        f"{SCORE} --others {{params.others}}"


# How the chosen SAEs reconstruct at other k than they were trained with.
rule robustness:
    input:
        **splits_of(*SPLITS),
        bank=rules.train.output.bank,
    output:
        stage_tables("robustness"),
    log:
        f"{paths.EXPERIMENT_LOGS}/robustness/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("robustness"),
    params:
        **stage_params("robustness"),
    shell:
        SCORE


# Linear probes on the largest activations of the chosen SAEs.
rule probe:
    input:
        **splits_of(*SPLITS),
        bank=rules.train.output.bank,
    output:
        stage_tables("probe"),
    log:
        f"{paths.EXPERIMENT_LOGS}/probe/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("probe"),
    params:
        **stage_params("probe"),
    shell:
        SCORE


# Their reference: the same probes on the embeddings themselves.
rule probe_embeddings:
    input:
        **splits_of(*SPLITS),
    output:
        paths.PROBE_OF_EMBEDDINGS,
    log:
        f"{paths.EXPERIMENT_LOGS}/probe_embeddings/{{dataset}}/{{backbone}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("probe_embeddings"),
    params:
        settings=lambda w: dumps(settings.probe_settings(cfg, w.experiment)),
        meaning=meaning_of("probe_embeddings"),
        device=COMPUTE.device,
        activations=lambda w: paths.ACTIVATIONS.format(**w),
    shell:
        command(
            "probe_embeddings",
            "--activations {params.activations} --out {output}"
            " --settings {params.settings:q} --threads {threads}"
            " --device {params.device}",
        )


# Where in their highest pictures the latents of the chosen SAEs fire.
rule heatmaps:
    input:
        inputs_to_embed,
        **splits_of("test"),
        bank=rules.train.output.bank,
    output:
        paths.HEATMAPS,
        stage_tables("heatmaps"),
    log:
        f"{paths.EXPERIMENT_LOGS}/heatmaps/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("heatmaps"),
    params:
        meaning=meaning_of("heatmaps"),
        device=COMPUTE.device,
        most=lambda w: cfg.experiments[w.experiment].heatmaps,
        controls=lambda w: [
            name
            for name in cfg.experiments[w.experiment].methods
            if cfg.methods[name].control
        ],
        activations=lambda w: paths.ACTIVATIONS.format(**w),
        dataset=lambda w: paths.DATASETS.format(**w),
        artifacts=paths.ARTIFACTS,
        out=lambda w, output: Path(output[0]).parent,
    shell:
        command(
            "heatmaps",
            "--bank {input.bank} --activations {params.activations}"
            " --dataset {params.dataset} --artifacts {params.artifacts}"
            " --out {params.out} --most-images {params.most}"
            " --controls {params.controls} --threads {threads}"
            " --device {params.device}",
        )


rule collect:
    input:
        tables_to_collect,
        references=lambda w: (
            for_each_cell(w.experiment, paths.PROBE_OF_EMBEDDINGS)
            if "probe" in cfg.metrics
            else []
        ),
        activations=lambda w: for_each_embedding(
            w.experiment, paths.EMBEDDINGS_MANIFEST, split="train"
        ),
    output:
        metrics=paths.METRICS,
        csv=paths.METRICS_CSV,
        sums=paths.METRICS_SUMS,
        curves=paths.CURVES,
        latents=paths.LATENTS,
        selection=paths.ALL_SELECTIONS,
        made_by=paths.MADE_BY,
    log:
        f"{paths.EXPERIMENT_LOGS}/collect.log",
    conda:
        ENVIRONMENT
    resources:
        **resources_of("collect"),
    params:
        meaning=meaning_of("collect"),
        settings=lambda w: dumps(settings.made_by(cfg, w.experiment)),
        scores=lambda w: for_each_cell(w.experiment, paths.SCORES),
        stages=lambda w: settings.stages_of_tables(cfg, w.experiment),
        out=lambda w: paths.EXPERIMENT.format(**w),
    shell:
        command(
            "collect",
            "--folders {params.scores} --stages {params.stages}"
            " --references {input.references} --activations {input.activations}"
            " --settings {params.settings:q} --out {params.out}",
        )
