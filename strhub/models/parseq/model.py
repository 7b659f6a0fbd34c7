"""The PARSeq network: a vision transformer reads the picture, one decoder reads the word in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from strhub.models.modules import (
    KeysValues,
    KVCache,
    check_heads,
    check_images,
    check_max_length,
    check_patches,
    init_weights,
)
from strhub.models.parseq.decoder import Decoder, TokenEmbedding
from strhub.models.parseq.permutations import attention_masks


class PARSeq(nn.Module):
    """Scene text recognition with permuted autoregressive sequence models (Bautista and Atienza, ECCV 2022).

    Tokens are numbered as by `strhub.tokenizer.Tokenizer`: [E] = 0, the characters, [B], [P]. The last two are read but
    never predicted.

    Args:
        num_tokens: n characters + 3.
        max_label_length: characters of the longest word.
        img_size: (height, width) of the pictures.
        patch_size: (height, width) of a patch.
        embed_dim: D, width of encoder and decoder.
        dec_depth: decoder layers; more than one excludes refinement.
        decode_ar: read character by character instead of all at once. May be changed at any time.
        refine_iters: how often the reading is gone over again, each character from all the others. May be changed at
            any time.
        dropout: in the decoder.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(
        self,
        num_tokens: int,
        max_label_length: int,
        *,
        img_size: Sequence[int] = (32, 128),
        patch_size: Sequence[int] = (4, 8),
        embed_dim: int = 384,
        enc_num_heads: int = 6,
        enc_mlp_ratio: float = 4,
        enc_depth: int = 12,
        dec_num_heads: int = 12,
        dec_mlp_ratio: float = 4,
        dec_depth: int = 1,
        decode_ar: bool = True,
        refine_iters: int = 1,
        dropout: float = 0.1,
    ) -> None:
        check_patches(img_size, patch_size)
        check_heads(embed_dim, enc_num_heads)
        check_heads(embed_dim, dec_num_heads)
        if min(enc_depth, dec_depth) < 1:
            raise ValueError(f'enc_depth is {enc_depth} and dec_depth is {dec_depth}: give at least 1 layer each')
        super().__init__()
        self.img_size = (img_size[0], img_size[1])
        self.max_label_length = max_label_length
        self.decode_ar = decode_ar
        self.refine_iters = refine_iters
        self.eos_id, self.bos_id, self.pad_id = 0, num_tokens - 2, num_tokens - 1

        self.encoder = VisionTransformer(
            img_size=self.img_size,
            patch_size=(patch_size[0], patch_size[1]),
            embed_dim=embed_dim,
            depth=enc_depth,
            num_heads=enc_num_heads,
            mlp_ratio=enc_mlp_ratio,
            num_classes=0,
            global_pool='',
            class_token=False,
        )
        self.decoder = Decoder(
            embed_dim, dec_num_heads, depth=dec_depth, mlp_dim=int(dec_mlp_ratio * embed_dim), dropout=dropout
        )
        self.head = nn.Linear(embed_dim, num_tokens - 2)
        self.text_embed = TokenEmbedding(num_tokens, embed_dim)
        self.pos_queries = nn.Parameter(torch.empty(1, max_label_length + 1, embed_dim))  # + 1: [E]
        self.dropout = nn.Dropout(dropout)
        self._check_refinement()

        for part in (self.decoder, self.head, self.text_embed):  # the encoder has initialised itself
            part.apply(init_weights)
        nn.init.trunc_normal_(self.pos_queries, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay must spare besides biases and norms."""
        encoder = {f'encoder.{name}' for name in self.encoder.no_weight_decay()}
        return encoder | {'pos_queries', 'text_embed.embedding.weight'}

    def _check_refinement(self) -> None:
        if self.refine_iters < 0:
            raise ValueError(f'refine_iters is {self.refine_iters}: give 0 or more')
        depth = len(self.decoder.layers)
        if depth > 1 and self.refine_iters:
            raise ValueError(
                f'dec_depth is {depth} and refine_iters is {self.refine_iters}: with more than one decoder layer the '
                'character to refine leaks into its own context through the other characters; '
                'give refine_iters=0 or dec_depth=1'
            )

    def encode(self, images: Tensor) -> Tensor:
        """Memory (N, S, D) of images (N, 3, H, W)."""
        check_images(images, self.img_size)
        return self.encoder.forward_features(images)

    def decode(
        self,
        tokens: Tensor,
        memory: Sequence[KeysValues],
        *,
        num_positions: int,
        start: int = 0,
        query_hides: Tensor | None = None,
        content_hides: Tensor | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """Logits (M, L, C) for the characters at L = `num_positions` positions, `start` and after.

        Args:
            tokens: (M, T) known tokens at `start` and after, where 0 is [B], 1 the first character.
            memory: keys and values of the N pictures, `decoder.project(encode(images))`; M is a multiple of N.
            num_positions: how many characters are asked for.
            start: 0 asks for the first character; more is for `caches`, which know the tokens before.
            query_hides, content_hides, caches: see `Decoder.forward`.
        """
        query = self.pos_queries[:, start : start + num_positions].expand(len(tokens), -1, -1)
        # A token's position is that of the query that asked for it; [B], at 0, is before the word and has none.
        positions = F.pad(self.pos_queries, (0, 0, 1, 0))[:, start : start + tokens.shape[1]]
        answers = self.decoder(
            self.dropout(query),
            self.dropout(self.text_embed(tokens) + positions),
            memory,
            query_hides=query_hides,
            content_hides=content_hides,
            caches=caches,
        )
        return self.head(answers)

    def decode_permuted(self, tokens: Tensor, memory: Tensor, orders: Tensor) -> Tensor:
        """Training: the same words read in several orders.

        Args:
            tokens: (N, T + 1) labels: [B], characters, [E], [P].
            memory: (N, S, D) from `encode`.
            orders: (K, T + 1) from `sample_permutations`.

        Returns:
            logits (N, K, T, C) for tokens[:, 1:]
        """
        context = tokens[:, :-1]
        num_orders = len(orders)
        beyond = (context == self.pad_id) | (context == self.eos_id)  # shorter words of the batch end earlier
        content_hides, query_hides = (
            (mask | beyond[:, None, None]).flatten(0, 1) for mask in attention_masks(orders.to(tokens.device))
        )
        logits = self.decode(
            context.repeat_interleave(num_orders, 0),
            self.decoder.project(memory),
            num_positions=context.shape[1],
            query_hides=query_hides,
            content_hides=content_hides,
        )
        return logits.unflatten(0, (-1, num_orders))

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Reads pictures.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            max_length: L, characters to read at most; the logits then have exactly L + 1 positions. Without it
                character by character reading stops when every word has ended, so that they may have fewer.

        Returns:
            logits (N, L + 1, C)
        """
        self._check_refinement()
        num_positions = check_max_length(max_length, self.max_label_length) + 1
        memory = self.decoder.project(self.encode(images))
        begin = torch.full((len(images), 1), self.bos_id, device=images.device)
        if self.decode_ar:
            logits = self._read_in_turn(begin, memory, num_positions, stop_early=max_length is None)
        else:
            logits = self.decode(begin, memory, num_positions=num_positions)
        for _ in range(self.refine_iters):
            logits = self._refine(logits, begin, memory, num_positions)
        return logits

    def _read_in_turn(
        self, begin: Tensor, memory: Sequence[KeysValues], num_positions: int, *, stop_early: bool
    ) -> Tensor:
        caches = [KVCache() for _ in self.decoder.layers]
        token, ended, logits = begin, torch.zeros_like(begin, dtype=torch.bool), []
        for i in range(num_positions):
            logits.append(self.decode(token, memory, num_positions=1, start=i, caches=caches))
            token = logits[-1].argmax(-1)
            ended = ended | (token == self.eos_id)
            if stop_early and bool(ended.all()):
                break
        return torch.cat(logits, 1)

    def _refine(self, logits: Tensor, begin: Tensor, memory: Sequence[KeysValues], num_positions: int) -> Tensor:
        """Reads each character again, seeing all others of the last reading: a cloze test (Devlin et al., BERT)."""
        tokens = torch.cat([begin, logits[:, :-1].argmax(-1)], 1)
        beyond = (tokens == self.eos_id).cumsum(-1) > 0  # [E] and whatever follows is no context
        asked = torch.arange(1, num_positions + 1, device=tokens.device)
        cloze = asked[:, None] == torch.arange(tokens.shape[1], device=tokens.device)
        return self.decode(tokens, memory, num_positions=num_positions, query_hides=cloze | beyond[:, None])
