# Tables, claims and figures, from the tidy tables alone; the galleries from the images
# of one cell.


rule tables:
    input:
        metrics=rules.collect.output.metrics,
        selection=rules.collect.output.selection,
        made_by=rules.collect.output.made_by,
        beside=lambda w: results_of_leaderboard(w.experiment),
        published=PUBLISHED,
    output:
        fill_in(
            paths.TABLE,
            number=paths.TABLE_NUMBERS,
            suffix=[s for s in paths.TABLE_SUFFIXES if s != "md"],
        ),
        fill_in(paths.NOTED_TABLES, suffix="csv"),
        paths.COMPARISON_TABLES,
        fill_in(paths.TYPED_TABLE, typed_table=paths.TYPED_TABLES),
        report(
            fill_in(
                [paths.TABLE, *paths.NOTED_TABLES],
                number=paths.TABLE_NUMBERS,
                suffix="md",
            ),
            category="Tables",
            caption="../report/table.rst",
        ),
        sums=paths.TABLES_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/tables.log",
    conda:
        ENVIRONMENT
    resources:
        **resources_of("tables"),
    params:
        settings=lambda w: dumps(settings.claims_settings(cfg, w.experiment)),
        meaning=meaning_of("tables"),
        published=lambda w, input: Path(input.published[0]).parent,
        out=lambda w, output: Path(output[0]).parent,
        beside=lambda w: cfg.experiments[w.experiment].leaderboard,
    shell:
        command(
            "tables",
            "--metrics {input.metrics}"
            " --published {params.published} --settings {params.settings:q}"
            " --out {params.out} --beside {params.beside:q}",
        )


rule claims:
    input:
        metrics=rules.collect.output.metrics,
        curves=rules.collect.output.curves,
        published=PUBLISHED,
    output:
        fill_in(paths.CLAIMS, suffix="csv"),
        paths.TYPED_CLAIMS,
        report(
            fill_in(paths.CLAIMS, suffix="md"),
            category="Claims",
            caption="../report/claims.rst",
        ),
        sums=paths.CLAIMS_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/claims.log",
    conda:
        ENVIRONMENT
    resources:
        **resources_of("claims"),
    params:
        settings=lambda w: dumps(settings.claims_settings(cfg, w.experiment)),
        meaning=meaning_of("claims"),
        published=lambda w, input: Path(input.published[0]).parent,
        out=lambda w: paths.EXPERIMENT.format(**w),
    shell:
        command(
            "claims",
            "--metrics {input.metrics} --curves {input.curves}"
            " --published {params.published} --settings {params.settings:q}"
            " --out {params.out}",
        )


rule gallery:
    input:
        lambda w: image_manifests(settings.gallery_cell(cfg, w.experiment).dataset),
        dataset=lambda w: for_gallery_cell(w, paths.DATASET),
        manifest=lambda w: for_gallery_cell(w, paths.EMBEDDINGS_MANIFEST, split="test"),
        embeddings=lambda w: ancient(
            for_gallery_cell(w, paths.EMBEDDINGS, split="test")
        ),
        bank=lambda w: for_gallery_cell(w, paths.BANK),
        latents=lambda w: for_gallery_cell(
            w, paths.STAGE_TABLE, stage="score", table="latents"
        ),
    output:
        fill_in(paths.GALLERY, part=paths.GALLERY_PARTS),
    log:
        f"{paths.EXPERIMENT_LOGS}/gallery.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **resources_of("gallery"),
    params:
        settings=lambda w: dumps(settings.method_roles(cfg, w.experiment)),
        meaning=meaning_of("gallery"),
        device=COMPUTE.device,
        artifacts=paths.ARTIFACTS,
        dataset=lambda w, input: Path(input.dataset).parent,
        activations=lambda w, input: Path(input.manifest).parent.parent,
        out=lambda w, output: Path(output[0]).parent,
    shell:
        command(
            "gallery",
            "--bank {input.bank} --latents {input.latents}"
            " --activations {params.activations} --dataset {params.dataset}"
            " --artifacts {params.artifacts} --settings {params.settings:q}"
            " --out {params.out} --threads {threads} --device {params.device}",
        )


rule plot:
    input:
        lambda w: [
            f"{paths.EXPERIMENT.format(**w)}/{table}"
            for table in registry.head("figure", w.figure).constants["READS"]
        ],
    output:
        report(
            fill_in(paths.FIGURE, suffix="png"),
            category="Figures",
            caption="../report/figure.rst",
        ),
        fill_in(paths.FIGURE, suffix=[s for s in paths.FIGURE_SUFFIXES if s != "png"]),
        sums=paths.FIGURE_SUMS,
    log:
        f"{paths.EXPERIMENT_LOGS}/plot/{{figure}}.log",
    conda:
        ENVIRONMENT
    resources:
        **resources_of("plot"),
    params:
        settings=printed_names,
        meaning=meaning_of("plot"),
        caption=lambda w: registry.head("figure", w.figure).constants["CAPTION"],
        results=lambda w: paths.EXPERIMENT.format(**w),
        out=lambda w, output: Path(output[0]).parent,
    shell:
        command(
            "plot",
            "--name {wildcards.figure} --results {params.results}"
            " --settings {params.settings:q} --out {params.out}",
        )
