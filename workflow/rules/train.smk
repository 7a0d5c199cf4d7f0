# One job trains a bank: every regularizer x lambda x seed of a (dataset, backbone, k). Finished SAEs lie in the
# content-addressed results/store/saes, so a bank job trains only what is missing. The mask ablation is a second bank:
# what it trains is known only when the first is scored and lambda chosen.


rule train:
    input:
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        # Followed through the manifest; named here only so that a deleted file is made again.
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
    output:
        "results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json",
    log:
        "results/{experiment}/logs/train/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/train/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        gpu=GPU,
    params:
        settings=lambda w: dumps(settings.bank_plan(config, w.experiment, w.dataset, w.backbone, int(w.k))),
        code=lambda w: code_hash("sae.bank", *settings.regularizer_modules(config, w.experiment)),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifest).parent.parent,
    shell:
        "python -m sae train --activations {params.activations} --store results/store/saes --out {output}"
        " --settings {params.settings:q} --threads {threads} --device {params.device} --log {log}"


rule ablate:
    input:
        manifest="results/activations/{dataset}/{backbone}/train/manifest.json",
        embeddings=ancient("results/activations/{dataset}/{backbone}/train/embeddings.npy"),
        bank="results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank.json",
        scores="results/{experiment}/scores/{dataset}/{backbone}/k{k}/scores.parquet",
    output:
        "results/{experiment}/saes/{dataset}/{backbone}/k{k}/bank_all.json",
    log:
        "results/{experiment}/logs/ablate/{dataset}/{backbone}/k{k}.log",
    benchmark:
        "results/{experiment}/benchmarks/ablate/{dataset}/{backbone}/k{k}.tsv"
    conda:
        ENVIRONMENT
    threads: COMPUTE["threads"]
    resources:
        gpu=GPU,
    params:
        code=lambda w: code_hash("sae.ablation", *settings.regularizer_modules(config, w.experiment)),
        device=COMPUTE["device"],
        activations=lambda w, input: Path(input.manifest).parent.parent,
    shell:
        "python -m sae ablate --bank {input.bank} --scores {input.scores} --activations {params.activations}"
        " --store results/store/saes --out {output} --threads {threads} --device {params.device} --log {log}"
