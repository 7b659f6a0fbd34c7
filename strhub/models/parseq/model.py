"""The PARSeq network: a vision transformer reads the picture, one decoder reads the word in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.modules import (
    Dropout,
    KeysValues,
    KVCache,
    check_heads,
    check_images,
    check_max_length,
    check_patches,
    init_weights,
    word_lengths,
)
from strhub.models.parseq.decoder import Decoder, TokenEmbedding
from strhub.models.parseq.permutations import attention_masks
from strhub.models.vit import VisionTransformer

Memory = Sequence[KeysValues]  # of each decoder layer
DECODINGS = 'auto', 'in_turn', 'verify'
FEW_TO_VERIFY = 4  # pictures; of more a processor takes the steps sooner than it reads a draft again
ASK_EVERY = 8  # steps, whether all words have ended, where the answer has to be waited for
SPARE = 2  # positions that are read beyond the end of the longest draft
WORTH_DROPPING = 0.25  # share of words that have ended by which the others are moved together


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
        decode: how character by character is done: in_turn, one after another; verify, by drafts that are read again
            until nothing changes, with the same result; or auto, what is faster for a trained network. May be changed
            at any time, as `decoding`.
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
        decode: str = 'auto',
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
        self.decoding = decode
        self.refine_iters = refine_iters
        self.eos_id, self.bos_id, self.pad_id = 0, num_tokens - 2, num_tokens - 1

        self.encoder = VisionTransformer(
            img_size=self.img_size,
            patch_size=(patch_size[0], patch_size[1]),
            embed_dim=embed_dim,
            depth=enc_depth,
            num_heads=enc_num_heads,
            mlp_ratio=enc_mlp_ratio,
            class_token=False,
        )
        self.decoder = Decoder(
            embed_dim, dec_num_heads, depth=dec_depth, mlp_dim=int(dec_mlp_ratio * embed_dim), dropout=dropout
        )
        self.head = nn.Linear(embed_dim, num_tokens - 2)
        self.text_embed = TokenEmbedding(num_tokens, embed_dim)
        self.pos_queries = nn.Parameter(torch.empty(1, max_label_length + 1, embed_dim))  # + 1: [E]
        self.dropout = Dropout(dropout)
        self._check_reading()

        for part in (self.decoder, self.head, self.text_embed):  # the encoder has initialised itself
            part.apply(init_weights)
        nn.init.trunc_normal_(self.pos_queries, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay must spare besides biases and norms."""
        encoder = {f'encoder.{name}' for name in self.encoder.no_weight_decay()}
        return encoder | {'pos_queries', 'text_embed.embedding.weight'}

    @property
    def static_part(self) -> nn.Module:
        """What computes the same each time; the decoder takes as many steps as there are characters."""
        return self.encoder

    def _check_reading(self) -> None:
        if self.decoding not in DECODINGS:
            raise ValueError(f'decode is {self.decoding!r}: give {", ".join(DECODINGS[:-1])} or {DECODINGS[-1]}')
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
        return self.encoder(images)

    def decode(
        self,
        tokens: Tensor,
        memory: Memory,
        *,
        num_positions: int,
        start: int = 0,
        query_hides: Tensor | None = None,
        content_hides: Tensor | None = None,
        caches: Sequence[KVCache] | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Logits (M, L, C) for the characters at L = `num_positions` positions, `start` and after.

        Args:
            tokens: (N, T) known tokens at `start` and after, where 0 is [B], 1 the first character.
            memory: keys and values of the N pictures, `decoder.project(encode(images))`.
            num_positions: how many characters are asked for.
            start: 0 asks for the first character; more is for `caches`, which know the tokens before.
            query_hides, content_hides, caches, asked: see `Decoder.forward`; M is N, or N * K of so many `query_hides`.
        """
        query = self.pos_queries[:, start : start + num_positions]
        # A token's position is that of the query that asked for it; [B], at 0, is before the word and has none.
        positions = self.pos_queries[:, max(start - 1, 0) : start + tokens.shape[1] - 1]
        if start == 0:
            positions = F.pad(positions, (0, 0, 1, 0))
        if self.training:
            query = query.expand(len(tokens), -1, -1)  # each has its own dropout
        answers = self.decoder(
            self.dropout(query),
            self.dropout(self.text_embed(tokens) + positions),
            memory,
            query_hides=query_hides,
            content_hides=content_hides,
            caches=caches,
            asked=asked,
        )
        return self.head(answers)

    def decode_permuted(self, tokens: Tensor, memory: Tensor, orders: Tensor, *, asked: Tensor | None = None) -> Tensor:
        """Training: the same words read in several orders, for the price of the answers.

        What orders have in common is computed once: the embedded words with their dropout, and of the first layer's
        attention queries, keys and values. All that follows is of each order's own, dropout included.

        Args:
            tokens: (N, T + 1) labels: [B], characters, [E], [P].
            memory: (N, S, D) from `encode`.
            orders: (K, T + 1) from `sample_permutations`.
            asked: indices (R,) of the wanted ones among the N * K * T answers; most of the others are [P].

        Returns:
            logits (N, K, T, C) for tokens[:, 1:], or (R, C) of those that are `asked`
        """
        context = tokens[:, :-1]
        beyond = (context == self.pad_id) | (context == self.eos_id)  # shorter words of the batch end earlier
        content_hides, query_hides = (
            (mask | beyond[:, None, None]).flatten(0, 1) for mask in attention_masks(orders.to(tokens.device))
        )
        logits = self.decode(
            context,
            self.decoder.project(memory),
            num_positions=context.shape[1],
            query_hides=query_hides,
            content_hides=content_hides,
            asked=asked,
        )
        return logits if asked is not None else logits.unflatten(0, (-1, len(orders)))

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Reads pictures.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            max_length: L, characters to read at most; the logits then have exactly L + 1 positions. Without it
                character by character reading stops when every word has ended, so that they may have fewer.

        Returns:
            logits (N, L + 1, C)
        """
        self._check_reading()
        num_positions = check_max_length(max_length, self.max_label_length) + 1
        check_images(images, self.img_size)
        if not len(images):  # no word says where to stop, and nothing is there to attend to
            return self.head(self.pos_queries[:, :num_positions].expand(0, -1, -1))
        memory = self.decoder.project(self.encode(images))
        begin = torch.full((len(images), 1), self.bos_id, device=images.device)
        is_draft = self.refine_iters > 0  # of which nothing counts but the characters up to the end
        if not self.decode_ar:
            logits = self.decode(begin, memory, num_positions=num_positions)
        elif self._verifies(len(images), images.device):
            logits = self._read_verified(begin, memory, num_positions, to_end=is_draft or max_length is None)
        else:
            logits = self._read_in_turn(
                begin, memory, num_positions, stop_early=is_draft or max_length is None, drop_ended=is_draft
            )
        for _ in range(self.refine_iters):
            logits = self._refine(logits, begin, memory, num_positions)
        return logits

    def attention(self, images: Tensor, ids: Tensor) -> Tensor:
        """Where the decoder looks when it is asked once more for each character of a reading.

        It sees of the reading what it sees when it reads: all other characters if it refines, those before if it reads
        character by character, else none.

        Args:
            images: (N, 3, H, W) in [-1, 1].
            ids: (N, L) of the readings' characters, then [E].

        Returns:
            (N, L, h, w): of each character a map over the patches that adds up to 1, the mean over the heads.
        """
        memory = self.decoder.project(self.encode(images))
        tokens = F.pad(ids, (1, 0), value=self.bos_id)[:, :-1]
        positions = torch.arange(ids.shape[1], device=ids.device)
        future = positions > positions[:, None]
        hides = future
        if self.refine_iters:
            beyond = (tokens == self.eos_id).cumsum(-1) > 0
            hides = (positions == positions[:, None] + 1) | beyond[:, None]
        elif not self.decode_ar:
            hides = (positions > 0).expand_as(future)
        weights = self.decoder.weights(
            self.pos_queries[:, : ids.shape[1]].expand(len(ids), -1, -1),
            self.text_embed(tokens) + F.pad(self.pos_queries[:, : ids.shape[1] - 1], (0, 0, 1, 0)),
            memory,
            query_hides=hides,
            content_hides=future,
        )
        return weights.unflatten(-1, self.encoder.grid)

    def _verifies(self, num_pictures: int, device: torch.device) -> bool:
        if self.decoding != 'auto':
            return self.decoding == 'verify'
        # All logits of all words up to the longest one, as steps give them, drafts give for one word only.
        return num_pictures == 1 or (self.refine_iters > 0 and (num_pictures <= FEW_TO_VERIFY or device.type != 'cpu'))

    def _read_in_turn(
        self, begin: Tensor, memory: Memory, num_positions: int, *, stop_early: bool, drop_ended: bool
    ) -> Tensor:
        """Logits (N, L, C), character by character; zeros, which read as [E], for words dropped at their end."""
        on_cpu = begin.device.type == 'cpu'  # elsewhere asking whether words have ended holds up the next step
        caches = [KVCache(num_positions) for _ in self.decoder.layers]
        rows = torch.arange(len(begin), device=begin.device)
        token, ended, logits = begin, torch.zeros_like(begin, dtype=torch.bool), begin.new_empty(0)
        for i in range(num_positions):
            answer = self.decode(token, memory, num_positions=1, start=i, caches=caches)
            if i == 0:
                logits = answer.new_zeros(len(begin), num_positions, answer.shape[-1])
            logits[rows, i] = answer[:, 0]
            token = answer.argmax(-1)
            ended = ended | (token == self.eos_id)
            if not stop_early or not (on_cpu or i % ASK_EVERY == ASK_EVERY - 1):
                continue
            num_ended = int(ended.sum())
            if num_ended == len(ended):
                break
            if drop_ended and on_cpu and num_ended > WORTH_DROPPING * len(ended):
                going = (~ended[:, 0]).nonzero()[:, 0]
                rows, token, ended = rows[going], token[going], ended[going]
                memory = _kept(memory, caches, going)
        if stop_early:
            logits = logits[:, : self._longest(logits.argmax(-1))]
        return logits

    def _read_verified(self, begin: Tensor, memory: Memory, num_positions: int, *, to_end: bool) -> Tensor:
        """The logits that `_read_in_turn` gives, by drafts that are read again as a whole until they stay the same.

        A character is right if all before it are; so each pass settles at least one more, and where a pass changes
        nothing, the draft is what reading in turn gives (Jacobi iteration: Song et al., Accelerating Feedforward
        Computation via Parallel Nonlinear Equation Solving, ICML 2021; Stern et al., Blockwise Parallel Decoding,
        NeurIPS 2018). The first draft reads all characters independently.

        Args:
            to_end: only logits up to the end of each word are needed.
        """
        rows = torch.arange(len(begin), device=begin.device)
        future = torch.ones(num_positions, num_positions, dtype=torch.bool, device=begin.device).triu(1)
        caches = [KVCache(num_positions) for _ in self.decoder.layers]
        logits = torch.zeros_like(answer := self.decode(begin, memory, num_positions=num_positions))
        tokens = torch.cat([begin, answer.argmax(-1)], 1)  # [B] and the draft
        start, width = 0, num_positions
        while len(rows):
            if to_end:
                width = min(self._longest(tokens[:, 1:]) + SPARE, num_positions)
            answer = self.decode(
                tokens[:, start:width].clone(),  # gradients need it as it is now
                memory,
                num_positions=width - start,
                start=start,
                query_hides=future[start:width, :width],
                content_hides=future[start:width, :width],
                caches=caches,
            )
            logits[rows, start:width] = answer
            draft, reading = tokens[:, start + 1 : width + 1], answer.argmax(-1)
            is_right = reading == draft
            if to_end:
                ended = (reading == self.eos_id).cumsum(1) > 0
                is_right |= ended
                is_right[:, -1] = ended[:, -1]
            if width == num_positions:
                is_right[:, -1] = True  # nothing follows that it could be wrong for
            tokens[:, start + 1 : width + 1] = reading
            going = (~is_right.all(1)).nonzero()[:, 0]
            if len(going) == 0:
                break
            # Where a character was wrong, its place has now the right one, and what was read up to there stays.
            start += int(is_right[going].cumprod(1).sum(1).min()) + 1
            for cache in caches:
                cache.truncate(start)
            if len(going) < len(rows):
                rows, tokens = rows[going], tokens[going]
                memory = _kept(memory, caches, going)
        return logits[:, : self._longest(logits.argmax(-1))] if to_end else logits

    def _longest(self, reading: Tensor) -> int:
        """Positions of the longest word of a reading (N, L), its end included."""
        return int(word_lengths(reading, self.eos_id).max())

    def _refine(self, logits: Tensor, begin: Tensor, memory: Memory, num_positions: int) -> Tensor:
        """Reads each character again, seeing all others of the last reading: a cloze test (Devlin et al., BERT)."""
        tokens = torch.cat([begin, logits[:, :-1].argmax(-1)], 1)
        beyond = (tokens == self.eos_id).cumsum(-1) > 0  # [E] and whatever follows is no context
        asked = torch.arange(1, num_positions + 1, device=tokens.device)
        cloze = asked[:, None] == torch.arange(tokens.shape[1], device=tokens.device)
        return self.decode(tokens, memory, num_positions=num_positions, query_hides=cloze | beyond[:, None])


def _kept(memory: Memory, caches: Sequence[KVCache], rows: Tensor) -> Memory:
    """The memory of these rows (M,) of the batch; caches forget the others."""
    for cache in caches:
        cache.keep(rows)
    return [(keys[rows], values[rows]) for keys, values in memory]
