"""TRBA and TRBC: rectify, extract, read the row in both directions, then predict with attention or with CTC."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import BidirectionalLSTM, check_images, check_max_length, column_cells
from strhub.models.trba.feature_extraction import ResNetFeatureExtractor
from strhub.models.trba.prediction import Attention
from strhub.models.trba.transformation import TPSTransformation

MIN_HEIGHT = 32  # three poolings and two 2x2 convolutions leave one row


class Stages(nn.Module):
    """What both share: everything before the prediction. The stages' names are those of the published weights.

    Args:
        img_size: (height, width) in pixels; the height must be at least 32.
        num_fiducial: points that steer the rectification, an even number.
        output_channel: width of the residual network's features, a multiple of 16.
        hidden_size: width of each LSTM direction.
    """

    def __init__(self, img_size: Sequence[int], *, num_fiducial: int, output_channel: int, hidden_size: int) -> None:
        super().__init__()
        if img_size[0] < MIN_HEIGHT or img_size[1] < 8:
            raise ValueError(
                f'TRBA cannot read pictures of height x width {img_size[0]} x {img_size[1]}: '
                f'give a height of at least {MIN_HEIGHT} and a width of at least 8, e.g. img_size [32, 128]'
            )
        self.img_size = img_size
        self.Transformation = TPSTransformation(num_fiducial, img_size)
        self.FeatureExtraction = ResNetFeatureExtractor(output_channel)
        self.SequenceModeling = nn.Sequential(
            BidirectionalLSTM(output_channel, hidden_size, hidden_size),
            BidirectionalLSTM(hidden_size, hidden_size, hidden_size),
        )

    @property
    def static_part(self) -> nn.Module:
        """What computes the same each time; the attention head takes as many steps as there are characters."""
        return self.FeatureExtraction

    def rectify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Straightened images (N, 3, H, W) and the fiducial points (N, F, 2), x and y in [-1, 1], that they follow."""
        check_images(images, self.img_size)
        return self.Transformation(images)

    def encode(self, images: Tensor) -> Tensor:
        """Columns (N, W / 4 + 1, D) of images (N, 3, H, W)."""
        rectified, _ = self.rectify(images)
        return self.SequenceModeling(self.FeatureExtraction(rectified))

    def unrectify(self, images: Tensor, weights: Tensor) -> Tensor:
        """Maps (N, L, H, W) of weights (N, L, W / 4 + 1): where in the pictures lies what the columns were made of.

        The weight of a column is spread over its pixels in the rectified picture, and each is taken back to where the
        rectification read it; what lies outside belongs to the border.
        """
        height, width = self.img_size
        fiducials = self.Transformation.LocalizationNetwork(images)
        x, y = (self.Transformation.GridGenerator(fiducials).clamp(-1, 1) + 1).div(2).unbind(-1)
        places = (y * (height - 1)).round() * width + (x * (width - 1)).round()  # (N, H, W)
        even = column_cells(weights)
        pixels = F.interpolate(even, size=width) * (even.shape[-1] / width / height)  # (N, L, W)
        N, L, _ = pixels.shape  # noqa: N806
        spread = pixels[:, :, None].expand(N, L, height, width).flatten(2)
        found = places.long().flatten(1)[:, None].expand_as(spread)
        return torch.zeros_like(spread).scatter_add(-1, found, spread).unflatten(-1, (height, width))


class TRBA(Stages):
    """Attention head. The two classes past `bos_id`, [B] and [P], are in the published head but never in a text."""

    def __init__(
        self,
        num_classes: int,
        *,
        bos_id: int,
        max_label_length: int,
        img_size: Sequence[int],
        num_fiducial: int,
        output_channel: int,
        hidden_size: int,
    ) -> None:
        super().__init__(img_size, num_fiducial=num_fiducial, output_channel=output_channel, hidden_size=hidden_size)
        self.max_label_length = max_label_length
        self.Prediction = Attention(hidden_size, hidden_size, num_classes, bos_id=bos_id)

    def forward(self, images: Tensor, max_length: int | None = None, inputs: Tensor | None = None) -> Tensor:
        """Logits (N, L, C) of images (N, 3, H, W).

        Args:
            images: pictures in [-1, 1].
            max_length: characters to read at most, L - 1 (limit: `max_label_length`). Without it reading stops when
                every word has ended, so that there may be fewer positions.
            inputs: (N, L) ids for teacher forcing, beginning with [B]; they set L.
        """
        memory = self.encode(images)
        if inputs is not None:
            return self.Prediction(memory, inputs.shape[1], inputs)
        num_steps = check_max_length(max_length, self.max_label_length) + 1
        return self.Prediction(memory, num_steps, stop_early=max_length is None)

    def attention(self, images: Tensor, ids: Tensor) -> Tensor:
        """Where the decoder looks for each character of a reading, given those before it.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            ids: (N, L) of the readings' characters, then [E].

        Returns:
            (N, L, H, W): of each character a map over the picture as it was before it was straightened, with sum 1.
        """
        inputs = F.pad(ids, (1, 0), value=self.Prediction.bos_id)[:, :-1]
        return self.unrectify(images, self.Prediction.weights(self.encode(images), inputs))


class TRBC(Stages):
    """CTC head."""

    def __init__(
        self, num_classes: int, *, img_size: Sequence[int], num_fiducial: int, output_channel: int, hidden_size: int
    ) -> None:
        super().__init__(img_size, num_fiducial=num_fiducial, output_channel=output_channel, hidden_size=hidden_size)
        self.Prediction = nn.Linear(hidden_size, num_classes)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Logits (N, W / 4 + 1, C) of images (N, 3, H, W); CTC takes every column, so `max_length` changes nothing."""
        return self.Prediction(self.encode(images))

    def alignment(self, images: Tensor, frames: Tensor) -> Tensor:
        """Where in the pictures lie frames (N, L, W / 4 + 1) of each character: maps (N, L, H, W); see `unrectify`."""
        return self.unrectify(images, frames)
