"""How names from the config are written in tables and figures."""

METHODS = {"none": "Baseline", "off_support_l1": "Reg. 1", "l1_l2_ratio": "Reg. 2"}
NAMES = {
    # The paper's own cells: under these names the tables put its numbers beside ours.
    "imagenet": "ImageNet",
    "openimages": "OpenImages",
    "clip_vit_l14": "CLIP",
    "siglip2_so400m": "SigLIP",
    "vit_l16": "ViT",
    "cifar100": "CIFAR-100",
    "imagenette": "Imagenette",
    "clip_vit_b32": "CLIP B/32",
    "siglip_b16": "SigLIP B/16",
    "vit_b16": "ViT B/16",
    "emoji": "Emoji",
    "fashion_mnist": "Fashion-MNIST",
    "fashion_mnist_10k": "Fashion-MNIST (10k)",
    "fashion_mnist_smoke": "Fashion-MNIST (smoke)",
    "efficientnet_lite0": "EffNet-Lite0",
    "efficientnet_lite1": "EffNet-Lite1",
    "efficientnet_lite2": "EffNet-Lite2",
}


def method(regularizer):
    """'Baseline', 'Reg. 1', 'Reg. 2', or the name itself for a regularizer of your own."""
    return METHODS.get(regularizer, regularizer)


def name(key):
    """A dataset's or backbone's name for print."""
    return NAMES.get(key, key)


def method_order(regularizers):
    """Baseline, the paper's two, then any others by name."""
    known = list(METHODS)
    return sorted(regularizers, key=lambda r: (known.index(r) if r in known else len(known), r))
