"""ABINet: look at the picture, think about the word, weigh both, think again."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from strhub.models.abinet.attention import ParallelAttention, PositionAttention
from strhub.models.abinet.layers import ACTIVATIONS, DecoderLayer, EncoderLayer, PositionalEncoding, Stack
from strhub.models.abinet.resnet import WIDTH_SHARES, ResNet45, feature_size
from strhub.models.modules import check_images, check_max_length, init_weights, word_lengths

EOS = 0  # class of the end of a word
ATTENTIONS = ('position', 'attention')
ATTENTION_MODES = ('nearest', 'bilinear')
BACKBONES = ('transformer', 'resnet')


class Opinion(NamedTuple):
    """What one part of the network thinks of the word."""

    features: Tensor  # (N, L, D)
    logits: Tensor  # (N, L, C)

    @property
    def lengths(self) -> Tensor:
        """(N,) positions up to and with the first end; all L where there is none."""
        return word_lengths(self.logits.argmax(-1), EOS)


class Stages(NamedTuple):
    """All opinions on the way to the last one."""

    vision: Opinion
    language: list[Opinion]  # one for each iteration
    alignment: list[Opinion]


class Frame(NamedTuple):
    """What the language model asks of all words, however often: it depends on their number of positions alone."""

    queries: Tensor  # (1, L, D)
    positions: Tensor  # (L,)
    itself: Tensor  # (L, L), True where a position would see itself


class TransformerBackbone(nn.Module):
    """ResNet45, then transformer layers over its feature map: (N, 3, H, W) -> (N, D, H / 4, W / 4)."""

    def __init__(self, layers: Sequence[nn.Module], d_model: int, *, size: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.resnet = ResNet45(d_model)
        self.pos_encoder = PositionalEncoding(d_model, size[0] * size[1], dropout=dropout)
        self.transformer = Stack(*layers)

    def forward(self, images: Tensor) -> Tensor:
        features = self.resnet(images)
        tokens = features.flatten(2).transpose(1, 2)  # (N, S, D)
        tokens = self.transformer(self.pos_encoder(tokens))
        return tokens.transpose(1, 2).unflatten(-1, features.shape[-2:])


class Vision(nn.Module):
    """Reads the picture alone."""

    def __init__(self, backbone: nn.Module, attention: nn.Module, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.attention = attention
        self.cls = nn.Linear(d_model, num_classes)

    def forward(self, images: Tensor) -> Opinion:
        features = self.attention(self.backbone(images))
        return Opinion(features, self.cls(features))


class Language(nn.Module):
    """Bidirectional cloze network: predicts each character from all the others, which it knows as probabilities."""

    def __init__(
        self,
        layers: Sequence[nn.Module],
        d_model: int,
        *,
        num_classes: int,
        length: int,
        dropout: float,
        detach: bool,
    ) -> None:
        super().__init__()
        self.detach = detach
        self.proj = nn.Linear(num_classes, d_model, bias=False)
        self.token_encoder = PositionalEncoding(d_model, length, dropout=dropout)
        self.pos_encoder = PositionalEncoding(d_model, length)
        self.model = Stack(*layers)
        self.cls = nn.Linear(d_model, num_classes)

    def forward(self, probs: Tensor, lengths: Tensor, frame: Frame | None = None) -> Opinion:
        """Characters as probabilities (N, L, C), of which the first `lengths` (N,), end included, are a word."""
        features = self.think(probs, lengths, frame or self.frame(probs.shape[1]))
        return Opinion(features, self.cls(features))

    def frame(self, length: int) -> Frame:
        """Of words of so many positions; made once, it serves all iterations."""
        queries = self.pos_encoder.pe[:length, 0][None]
        positions = torch.arange(length, device=queries.device)
        return Frame(queries, positions, itself=positions == positions[:, None])

    def think(self, probs: Tensor, lengths: Tensor, frame: Frame) -> Tensor:
        """The features (N, L, D) of the opinion on those characters."""
        if self.detach:
            probs = probs.detach()
        memory = self.token_encoder(self.proj(probs))
        # A word of one position would leave its only query nothing to read.
        padding = frame.positions >= lengths.clamp(min=2)[:, None, None]  # (N, 1, L)
        return self.model(frame.queries, memory, hidden=padding | frame.itself, padding=padding)


class Alignment(nn.Module):
    """Weighs what is seen against what is thought, with one gate per channel."""

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.w_att = nn.Linear(2 * d_model, d_model)
        self.cls = nn.Linear(d_model, num_classes)

    def forward(self, language: Tensor, vision: Tensor) -> Opinion:
        """Two features (N, L, D)."""
        gate = self.w_att(torch.cat([language, vision], dim=-1)).sigmoid()
        features = gate * vision + (1 - gate) * language
        return Opinion(features, self.cls(features))


class ABINet(nn.Module):
    """The whole network.

    Args:
        num_classes: characters and the end, which is class 0.
        max_label_length: characters of the longest word.
        img_size: (height, width) of the pictures in pixels.
        iter_size: how often the language model corrects the reading.
        d_model: width; nhead divides it, and so does 16.
        nhead: attention heads.
        d_inner: width inside the feed-forward networks.
        dropout: in transformer layers and positional encodings.
        activation: 'relu' or 'gelu'.
        v_attention: how the vision model finds characters: 'position', or 'attention' (the SV variant).
        v_attention_mode: interpolation of the position attention: 'nearest' or 'bilinear'.
        v_backbone: 'transformer' (a residual network and transformer layers) or 'resnet' (without the layers).
        v_num_layers: transformer layers of the vision model.
        l_num_layers: layers of the language model.
        l_detach: keep the language model's gradient out of the vision model, as the paper does.
        l_use_self_attn: let the positions of the language model see each other.

    Raises:
        ValueError: an argument is not one of those.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        max_label_length: int,
        img_size: Sequence[int],
        iter_size: int = 3,
        d_model: int = 512,
        nhead: int = 8,
        d_inner: int = 2048,
        dropout: float = 0.1,
        activation: str = 'relu',
        v_attention: str = 'position',
        v_attention_mode: str = 'nearest',
        v_backbone: str = 'transformer',
        v_num_layers: int = 3,
        l_num_layers: int = 4,
        l_detach: bool = True,
        l_use_self_attn: bool = False,
    ) -> None:
        super().__init__()
        check_choice('activation', activation, ACTIVATIONS)
        check_choice('v_attention', v_attention, ATTENTIONS)
        check_choice('v_attention_mode', v_attention_mode, ATTENTION_MODES)
        check_choice('v_backbone', v_backbone, BACKBONES)
        if iter_size < 1:
            raise ValueError(f'iter_size is {iter_size}: give at least 1')
        if min(v_num_layers, l_num_layers, d_inner) < 1:
            raise ValueError(
                f'v_num_layers is {v_num_layers}, l_num_layers {l_num_layers} and d_inner {d_inner}: '
                'give at least 1 each'
            )
        if d_model < 1 or d_model % WIDTH_SHARES[0]:
            raise ValueError(f'd_model is {d_model}: give a multiple of {WIDTH_SHARES[0]}')
        self.max_label_length = max_label_length
        self.img_size = (img_size[0], img_size[1])
        self.iter_size = iter_size
        length = max_label_length + 1
        size = feature_size(self.img_size)

        def encoder_layer() -> EncoderLayer:
            return EncoderLayer(d_model, nhead, d_inner=d_inner, dropout=dropout, activation=activation)

        def decoder_layer() -> DecoderLayer:
            return DecoderLayer(
                d_model, nhead, d_inner=d_inner, dropout=dropout, activation=activation, use_self_attn=l_use_self_attn
            )

        backbone: nn.Module = ResNet45(d_model)
        if v_backbone == 'transformer':
            layers = [encoder_layer() for _ in range(v_num_layers)]
            backbone = TransformerBackbone(layers, d_model, size=size, dropout=dropout)
        attention: nn.Module
        if v_attention == 'position':
            attention = PositionAttention(d_model, length, size=size, mode=v_attention_mode)
        else:
            attention = ParallelAttention(d_model, length, size=size)
        self.vision = Vision(backbone, attention, d_model, num_classes)
        self.language = Language(
            [decoder_layer() for _ in range(l_num_layers)],
            d_model,
            num_classes=num_classes,
            length=length,
            dropout=dropout,
            detach=l_detach,
        )
        self.alignment = Alignment(d_model, num_classes)
        self.apply(init_weights)

    @property
    def static_part(self) -> nn.Module:
        """What computes the same each time, in training, too, where the parts are called one by one."""
        return self.vision

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, L, C) of images (N, 3, H, W); L = max_length + 1, at most max_label_length + 1."""
        length = check_max_length(max_length, self.max_label_length) + 1
        check_images(images, self.img_size)
        vision = belief = self.vision(images)
        frame = self.language.frame(belief.logits.shape[1])
        for _ in range(self.iter_size):
            thought = self.language.think(belief.logits.softmax(-1), belief.lengths, frame)
            belief = self.alignment(thought, vision.features)
        return belief.logits[:, :length]

    def attention(self, images: Tensor, ids: Tensor) -> Tensor:
        """Where the vision model looks for each character of ids (N, L), which only say how many there are.

        Whatever the language model thinks of it, a character keeps its position.

        Returns:
            (N, L, h, w): of each character a map over the features that adds up to 1.
        """
        check_images(images, self.img_size)
        features = self.vision.backbone(images)
        weights = cast(PositionAttention | ParallelAttention, self.vision.attention).weights(features)
        return weights[:, : ids.shape[1]].unflatten(-1, features.shape[-2:])

    def stages(self, images: Tensor) -> Stages:
        """The opinions that lead to the logits: the last alignment has them."""
        check_images(images, self.img_size)
        vision = self.vision(images)
        language: list[Opinion] = []
        alignment: list[Opinion] = []
        belief = vision
        frame = self.language.frame(belief.logits.shape[1])
        for _ in range(self.iter_size):
            thought = self.language(belief.logits.softmax(-1), belief.lengths, frame)
            belief = self.alignment(thought.features, vision.features)
            language.append(thought)
            alignment.append(belief)
        return Stages(vision, language, alignment)


def check_choice(name: str, value: str, accepted: Iterable[str]) -> None:
    if value not in accepted:
        raise ValueError(f'{name} is {value!r}: give one of {", ".join(map(repr, accepted))}')
