# The experiment as a small static site.


rule site:
    input:
        at(paths.TABLE, number=paths.TABLE_NUMBERS, suffix="csv"),
        at(paths.NOTED_TABLES, suffix="csv"),
        paths.FRONT_MEANS,
        lambda w: at(paths.FIGURE, figure=settings.figures(cfg, w.experiment), suffix=["png", "svg"], **w),
        lambda w: at(paths.FIGURE_SUMS, figure=settings.figures(cfg, w.experiment), **w),
        at(paths.CLAIMS, suffix="csv"),
        lambda w: [file for d in cfg.experiments[w.experiment].datasets for file in images_of(d)],
        sums=[paths.TABLES_SUMS, paths.CLAIMS_SUMS, paths.METRICS_SUMS],
        scores=[paths.METRICS, paths.METRICS_CSV, paths.CURVES, paths.LATENTS, paths.ALL_SELECTIONS, paths.MADE_BY],
        banks=lambda w: of_banks(w.experiment, paths.BANK),
        datasets=lambda w: of_banks(w.experiment, paths.DATASET),
        concepts=lambda w: at([paths.CONCEPTS, *paths.CONCEPT_TABLES], dataset=settings.annotated(cfg, w.experiment)),
        manifests=lambda w: of_embedded(w.experiment, paths.EMBEDDINGS_MANIFEST, split=["train", "test"]),
        embeddings=lambda w: ancient(of_banks(w.experiment, paths.EMBEDDINGS, split="test")),
        pages=own("sae/report/site/index.html") + own("sae/report/site/assets/*"),
        times=own("workflow/sae_workflow/times.py"),
    output:
        page=report(paths.SITE, category="Report", caption="../report/site.rst"),
        sums=paths.SITE_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/site.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **asks("site"),
    params:
        settings=lambda w: dumps(settings.report_plan(cfg, w.experiment)),
        meaning=says("site"),
        device=COMPUTE.device,
        results=lambda w: paths.EXPERIMENT.format(**w),
        activations=Path(paths.ACTIVATIONS).parents[1],
        datasets=Path(paths.DATASETS).parent,
        artifacts=paths.ARTIFACTS,
        out=lambda w, output: Path(output.page).parent,
    shell:
        # The times of Snakemake's jobs are the workflow's to read: the library knows nothing of them. The path: a container
        # has no installed project.
        "PYTHONPATH=workflow${{PYTHONPATH:+:$PYTHONPATH}} python -m sae_workflow.times {wildcards.experiment}"
        " --out {params.results}/logs/times.json && "
        + command(
            "site",
            "--results {params.results} --activations {params.activations} --datasets {params.datasets}"
            " --artifacts {params.artifacts} --times {params.results}/logs/times.json --settings {params.settings:q}"
            " --out {params.out} --threads {threads} --device {params.device}",
        )
