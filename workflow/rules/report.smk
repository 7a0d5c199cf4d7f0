# The experiment as one self-contained page.


rule page:
    input:
        at(paths.TABLE, number=paths.TABLE_NUMBERS, suffix="csv"),
        at(paths.NOTED_TABLES, suffix="csv"),
        lambda w: at(paths.FIGURE, figure=settings.figures(cfg, w.experiment), suffix="png", **w),
        lambda w: at(paths.FIGURE_SUMS, figure=settings.figures(cfg, w.experiment), **w),
        at(paths.CLAIMS, suffix="csv"),
        sums=[paths.TABLES_SUMS, paths.CLAIMS_SUMS],
        metrics=paths.METRICS,
        activations=lambda w: of_embedded(w.experiment, paths.EMBEDDINGS_MANIFEST, split="train"),
        published=PUBLISHED,
        template=own("sae/report/page.html"),
        times=own("workflow/sae_workflow/times.py"),
    output:
        page=report(paths.PAGE, category="Report", caption="../report/page.rst"),
        sums=paths.PAGE_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/page.log",
    conda:
        ENVIRONMENT
    resources:
        **asks("page"),
    params:
        settings=lambda w: dumps(settings.report_plan(cfg, w.experiment)),
        meaning=says("page"),
        published=lambda w, input: Path(input.published[0]).parent,
        results=lambda w: paths.EXPERIMENT.format(**w),
    shell:
        # The times of Snakemake's jobs are the workflow's to read: the library knows nothing of them. The path: a container
        # has no installed project.
        "PYTHONPATH=workflow${{PYTHONPATH:+:$PYTHONPATH}} python -m sae_workflow.times {wildcards.experiment}"
        " --out {params.results}/logs/times.json && "
        + command(
            "page",
            "--results {params.results} --activations {input.activations} --published {params.published}"
            " --times {params.results}/logs/times.json --settings {params.settings:q} --out {output.page}",
        )
