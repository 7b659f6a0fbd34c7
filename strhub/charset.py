"""Sets of characters by name, for what must not wait for torch to be imported."""

from string import ascii_letters, digits, punctuation

PRINTABLE = digits + ascii_letters + punctuation  # the 94 of the full charset
