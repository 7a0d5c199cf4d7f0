# The experiment as a small static site.


rule site:
    input:
        fill_in(paths.TABLE, number=paths.TABLE_NUMBERS, suffix="csv"),
        fill_in(paths.NOTED_TABLES, suffix="csv"),
        paths.COMPARISON_TABLES,
        fill_in(paths.TYPED_TABLE, typed_table=paths.TYPED_TABLES),
        lambda w: fill_in(
            paths.FIGURE,
            figure=settings.shown_figures(cfg, w.experiment),
            suffix=["png", "svg"],
            **w,
        ),
        lambda w: fill_in(
            paths.FIGURE_SUMS, figure=settings.shown_figures(cfg, w.experiment), **w
        ),
        fill_in(paths.CLAIMS, suffix="csv"),
        paths.TYPED_CLAIMS,
        lambda w: [
            file
            for d in cfg.experiments[w.experiment].datasets
            for file in image_manifests(d)
        ],
        sums=[paths.TABLES_SUMS, paths.CLAIMS_SUMS, paths.METRICS_SUMS],
        scores=[
            paths.METRICS,
            paths.METRICS_CSV,
            paths.CURVES,
            paths.LATENTS,
            paths.ALL_SELECTIONS,
            paths.MADE_BY,
        ],
        banks=lambda w: for_each_cell(w.experiment, paths.BANK),
        datasets=lambda w: for_each_cell(w.experiment, paths.DATASET),
        concepts=lambda w: fill_in(
            [paths.CONCEPTS, *paths.CONCEPT_TABLES],
            dataset=settings.annotated_datasets(cfg, w.experiment),
        ),
        heatmaps=lambda w: (
            for_each_cell(w.experiment, paths.HEATMAPS)
            if cfg.experiments[w.experiment].heatmaps
            else []
        ),
        manifests=lambda w: for_each_embedding(
            w.experiment, paths.EMBEDDINGS_MANIFEST, split=["train", "test"]
        ),
        embeddings=lambda w: ancient(
            for_each_cell(w.experiment, paths.EMBEDDINGS, split="test")
        ),
        pages=project_files("sae/report/site/index.html")
        + project_files("sae/report/site/assets/*.css")
        + project_files("sae/report/site/assets/*.js"),
        times=project_files("workflow/sae_workflow/times.py"),
    output:
        page=report(paths.SITE, category="Report", caption="../report/site.rst"),
        sums=paths.SITE_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/site.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("site"),
    params:
        settings=lambda w: dumps(settings.report_settings(cfg, w.experiment)),
        meaning=meaning_of("site"),
        device=COMPUTE.device,
        results=lambda w: paths.EXPERIMENT.format(**w),
        activations=Path(paths.ACTIVATIONS).parents[1],
        datasets=Path(paths.DATASETS).parent,
        artifacts=paths.ARTIFACTS,
        out=lambda w, output: Path(output.page).parent,
    shell:
        # The times of Snakemake's jobs are the workflow's to read: the library knows
        # nothing of them. The path: a container has no installed project.
        "PYTHONPATH=workflow${{PYTHONPATH:+:$PYTHONPATH}}"
        " python -m sae_workflow.times {wildcards.experiment}"
        " --out {params.results}/logs/times.json && "
        + command(
            "site",
            "--results {params.results} --activations {params.activations}"
            " --datasets {params.datasets} --artifacts {params.artifacts}"
            " --times {params.results}/logs/times.json --settings {params.settings:q}"
            " --out {params.out} --threads {threads} --device {params.device}",
        )
