"""torch.hub entry points: `torch.hub.load(REPOSITORY, 'parseq', pretrained=True)`, one per model of the hub.

And one for weights in the box: `torch.hub.load(REPOSITORY, 'crnn_small_rendered')`.
"""

from strhub.models.zoo import MODELS, create_model, in_the_box

dependencies = ['torch', 'torchvision', 'timm', 'lightning', 'yaml', 'safetensors']


def _entry_point(name: str):
    is_boxed = name not in MODELS

    def make(pretrained: bool = is_boxed, **overrides):
        return create_model(name, pretrained, **overrides)

    published = None if is_boxed else MODELS[name].weights
    if is_boxed:
        which = 'always true: these are weights in the box, which need no download'
    else:
        which = f'load the published weights {published}' if published else 'there are no published weights'
    make.__name__ = make.__qualname__ = name.replace('-', '_')
    make.__doc__ = f"""Makes {name}, a LightningModule: images (N, 3, H, W) in [-1, 1] -> logits (N, L, C).

    Args:
        pretrained: {which}.
        **overrides: hyper-parameters, e.g. those of reading: decode_ar and refine_iters (PARSeq), iter_size (ABINet).
    """
    return make


# Names of Python have no hyphen: parseq-tiny is parseq_tiny here.
globals().update({name.replace('-', '_'): _entry_point(name) for name in (*MODELS, *in_the_box())})
