# One job trains a bank: every regularizer x lambda x seed of a (dataset, backbone, k). Finished SAEs lie in the
# content-addressed results/store/saes, so a bank job trains only what is missing. The mask ablation is a second bank:
# what it trains is known only when the first is scored and lambda chosen. With `compute.saes_per_job`, jobs of their own
# first bring parts of a bank into the store; what they leave is undeclared, and the bank's job finds it there.
BANK = "results/{experiment}/saes/{dataset}/{backbone}/k{k}"
TRAINING = {"gpu": GPU, "shared": shared("store/saes")}


rule train:
    input:
        lambda w: parts_of("bank", w),
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        # Followed through the manifest; named here only so that a deleted file is made again.
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
    output:
        f"{BANK}/bank.json",
    log:
        "results/{experiment}/logs/train/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/train/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        **TRAINING,
        mem_mb=needs.memory("train"),
        runtime=needs.runtime("train"),
    params:
        settings=lambda w: dumps(settings.bank_plan(config, w.experiment, w.dataset, w.backbone, int(w.k))),
        code=lambda w: code_hash("sae.bank.train", *settings.regularizer_modules(config, w.experiment)),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifest).parent.parent,
        out=lambda w: f"{BANK}/bank.json".format(**w),
        part="",
    shell:
        "python -m sae train --activations {params.activations} --store results/store/saes --out {params.out}"
        " --settings {params.settings:q} {resources.shared} {params.part}"
        " --threads {threads} --device {params.device} --log {log}"


use rule train as train_part with:
    input:
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
    output:
        temp(touch(f"{BANK}/.parts/bank/{{part}}-of-{{parts}}")),
    log:
        "results/{experiment}/logs/train/{dataset}/{backbone}/k{k}/{part}-of-{parts}.log",
    benchmark:
        "results/{experiment}/benchmarks/train/{dataset}/{backbone}/k{k}/{part}-of-{parts}.tsv"
    resources:
        **TRAINING,
        mem_mb=needs.memory("train"),
        runtime=needs.runtime("train"),
    params:
        part=lambda w: f"--part {w.part} --parts {w.parts}",


rule ablate:
    input:
        lambda w: parts_of("bank_all", w),
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
        bank=f"{BANK}/bank.json",
        scores="results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet",
    output:
        f"{BANK}/bank_all.json",
    log:
        "results/{experiment}/logs/ablate/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/ablate/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        **TRAINING,
        mem_mb=needs.memory("train"),
        runtime=needs.runtime("ablate"),
    params:
        code=lambda w: code_hash("sae.bank.ablation", *settings.regularizer_modules(config, w.experiment)),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifest).parent.parent,
        out=lambda w: f"{BANK}/bank_all.json".format(**w),
        part="",
    shell:
        "python -m sae ablate --bank {input.bank} --scores {input.scores} --activations {params.activations}"
        " --store results/store/saes --out {params.out} {resources.shared} {params.part}"
        " --threads {threads} --device {params.device} --log {log}"


use rule ablate as ablate_part with:
    input:
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
        bank=f"{BANK}/bank.json",
        scores="results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet",
    output:
        temp(touch(f"{BANK}/.parts/bank_all/{{part}}-of-{{parts}}")),
    log:
        "results/{experiment}/logs/ablate/{dataset}/{backbone}/k{k}/{part}-of-{parts}.log",
    benchmark:
        "results/{experiment}/benchmarks/ablate/{dataset}/{backbone}/k{k}/{part}-of-{parts}.tsv"
    resources:
        **TRAINING,
        mem_mb=needs.memory("train"),
        runtime=needs.runtime("ablate"),
    params:
        part=lambda w: f"--part {w.part} --parts {w.parts}",
