"""Write the byte-pair ranks of a published `tokenizer.json` in tiktoken's format.

    python tests/data/make_ranks.py IN/tokenizer.json OUT.tiktoken

This made `gpt2.tiktoken` from the tokenizer of tiny.en and `multilingual.tiktoken` from that of
base. A rank is the token's id; tokens spell bytes with GPT-2's printable stand-ins.
"""

import base64
import json
import sys
from pathlib import Path


def byte_stand_ins() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 stands for itself, the rest follows U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(hidden)}


def ranks_of(tokenizer: Path) -> dict[bytes, int]:
    """Return bytes to rank of all text tokens, in ascending order of rank."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    special = {token["content"] for token in content["added_tokens"]}
    alphabet = byte_stand_ins()
    vocabulary = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    return {
        bytes(alphabet[character] for character in token): rank
        for token, rank in vocabulary
        if token not in special
    }


def write_ranks(ranks: dict[bytes, int], out: Path) -> None:
    """Write one line a token: its bytes in base64, a space, its rank."""
    lines = (b"%s %d\n" % (base64.b64encode(token) or b"=", rank) for token, rank in ranks.items())
    out.write_bytes(b"".join(lines))


if __name__ == "__main__":
    write_ranks(ranks_of(Path(sys.argv[1])), Path(sys.argv[2]))
