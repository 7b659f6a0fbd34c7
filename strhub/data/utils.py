"""The names under which users of the hub import the tokenizers."""

from strhub.tokenizer import BaseTokenizer, CharsetAdapter, CTCTokenizer, Tokenizer

__all__ = ['BaseTokenizer', 'CTCTokenizer', 'CharsetAdapter', 'Tokenizer']
