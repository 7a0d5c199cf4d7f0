# One job trains a bank: every method, trial and seed of a (dataset, backbone, k). Finished SAEs lie in the
# content-addressed results/store/saes, so a bank job trains only what is missing. Selection reads the validation split
# alone, and all that follows reads its file. Methods that train `at` what selection chose for another one (the mask
# ablation) are a second bank. With `compute.saes_per_job`, jobs of their own first bring parts of a bank into the store;
# what they leave is undeclared, and the bank's job finds it there.
TRAIN = (
    "python -m sae {params.step} --activations {params.activations} --store {params.store} --out {params.out}"
    " --settings {params.settings:q} {resources.shared} {params.part} --threads {threads} --device {params.device}"
    f" {CODE} --log {{log}}"
)


# Protocol `fair` alone: how long this cell's SAEs train.
rule lengths:
    input:
        **splits_of("train", "val"),
    output:
        paths.BANK_LENGTHS,
    log:
        f"{paths.EXPERIMENT_LOGS}/lengths/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **train_resources("lengths"),
    params:
        **train_params("bank_lengths"),
        part="",
    shell:
        TRAIN


rule train:
    input:
        lambda w: parts_of("bank", w),
        imported_of,
        **splits_of("train", "val"),
        lengths=lambda w: at(paths.BANK_LENGTHS, **w) if settings.finds_steps(cfg, w.experiment) else [],
    output:
        paths.BANK,
    log:
        f"{paths.EXPERIMENT_LOGS}/train/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **train_resources("train"),
    params:
        **train_params("bank"),
        part="",
        lengths=lambda w, input: f"--lengths {input.lengths}" if input.lengths else "",
    shell:
        f"{TRAIN} {{params.lengths}}"


use rule train as train_part with:
    input:
        imported_of,
        **splits_of("train", "val"),
        lengths=lambda w: at(paths.BANK_LENGTHS, **w) if settings.finds_steps(cfg, w.experiment) else [],
    output:
        temp(touch(at(paths.PART, bank="bank")[0])),
    log:
        f"{paths.EXPERIMENT_LOGS}/train/{{dataset}}/{{backbone}}/k{{k}}/{{part}}-of-{{parts}}.log",
    params:
        part=lambda w: f"--part {w.part} --parts {w.parts}",


# Protocol `fair` alone: the trials that get more tuning seeds, and these.
rule shortlist:
    input:
        **splits_of("train", "val"),
        bank=rules.train.output[0],
    output:
        paths.SHORTLIST,
    log:
        f"{paths.EXPERIMENT_LOGS}/shortlist/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        mem_mb=needs.memory("shortlist"),
        runtime=needs.runtime("shortlist"),
        gpu=GPU,
        modules=modules_of("select"),
    params:
        settings=lambda w: dumps(settings.shortlist_plan(cfg, w.experiment)),
        code=code_of("select"),
        device=COMPUTE.device,
        activations=lambda w: paths.ACTIVATIONS.format(**w),
    shell:
        "python -m sae shortlist --bank {input.bank} --activations {params.activations} --out {output}"
        f" --settings {{params.settings:q}} --threads {{threads}} --device {{params.device}} {CODE} --log {{log}}"


rule train_shortlist:
    input:
        lambda w: parts_of("bank_shortlist", w),
        **splits_of("train", "val"),
        bank=rules.train.output[0],
        shortlist=rules.shortlist.output[0],
    output:
        paths.BANK_SHORTLIST,
    log:
        f"{paths.EXPERIMENT_LOGS}/train_shortlist/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **train_resources("train_shortlist"),
    params:
        **train_params("bank_shortlist"),
        part="",
    shell:
        f"{TRAIN} --bank {{input.bank}} --shortlist {{input.shortlist}}"


use rule train_shortlist as train_shortlist_part with:
    input:
        **splits_of("train", "val"),
        bank=rules.train.output[0],
        shortlist=rules.shortlist.output[0],
    output:
        temp(touch(at(paths.PART, bank="bank_shortlist")[0])),
    log:
        f"{paths.EXPERIMENT_LOGS}/train_shortlist/{{dataset}}/{{backbone}}/k{{k}}/{{part}}-of-{{parts}}.log",
    params:
        part=lambda w: f"--part {w.part} --parts {w.parts}",


rule select:
    input:
        lambda w: of_fair(paths.EMBEDDINGS_MANIFEST, w, split="train"),
        **splits_of("val"),
        bank=rules.train.output[0],
        tuned=lambda w: of_fair(paths.BANK_SHORTLIST, w),
    output:
        selection=paths.SELECTION,
        validation=paths.VALIDATION,
    log:
        f"{paths.EXPERIMENT_LOGS}/select/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        mem_mb=needs.memory("select"),
        runtime=needs.runtime("select"),
        gpu=GPU,
        modules=modules_of("select"),
    params:
        settings=lambda w: dumps(settings.selection_plan(cfg, w.experiment)),
        code=code_of("select"),
        device=COMPUTE.device,
        activations=lambda w: paths.ACTIVATIONS.format(**w),
        tuned=TUNED,
    shell:
        "python -m sae select --bank {input.bank} --activations {params.activations} --out {output.selection}"
        " {params.tuned}"
        f" --settings {{params.settings:q}} --threads {{threads}} --device {{params.device}} {CODE} --log {{log}}"


CHOSEN = "--bank {input.bank} --selection {input.selection}"


rule train_chosen:
    input:
        lambda w: parts_of("bank_chosen", w),
        **splits_of("train", "val"),
        bank=rules.train.output[0],
        selection=rules.select.output.selection,
    output:
        paths.BANK_CHOSEN,
    log:
        f"{paths.EXPERIMENT_LOGS}/train_chosen/{{dataset}}/{{backbone}}/k{{k}}.log",
    conda:
        ENVIRONMENT
    threads: COMPUTE.threads
    resources:
        **train_resources("train_chosen"),
    params:
        **train_params("bank_chosen"),
        part="",
    shell:
        f"{TRAIN} {CHOSEN}"


use rule train_chosen as train_chosen_part with:
    input:
        **splits_of("train", "val"),
        bank=rules.train.output[0],
        selection=rules.select.output.selection,
    output:
        temp(touch(at(paths.PART, bank="bank_chosen")[0])),
    log:
        f"{paths.EXPERIMENT_LOGS}/train_chosen/{{dataset}}/{{backbone}}/k{{k}}/{{part}}-of-{{parts}}.log",
    params:
        part=lambda w: f"--part {w.part} --parts {w.parts}",
