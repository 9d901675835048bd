"""The reader of one Parquet column against files that pyarrow 26 wrote, here in base64."""

import base64

import pytest

from extract.errors import InputError
from extract.word_vectors.parquet import read_words

WORDS = ["the", "rock", "jazz", "the"] * 3 + [f"word{i % 40}" for i in range(60)] + ["café", "￥"]

# pyarrow.parquet.write_table(table, file, compression="snappy", store_schema=False,
# write_statistics=False): one page of indices into a dictionary.
DICTIONARY = base64.b64decode(
    "UEFSMRUEFdoGFZ4DTBVaFQASAACtAzgDAAAAdGhlBAAAAHJvY2sBCDBqYXp6BQAAAHdvcmQwEQkAMREJADIRCQAzEQ"
    "kANBEJADURCQA2EQkANxEJADgRCQQ5Bg1aBDEwFQoAMRUKADIVCgAzFQoANBUKADUVCgA2FQoANxUKADgVChVkADIV"
    "ZAAyFWQAMhVkADIVZAAyFWQAMhVkADIVZAAyFWQAMhVkADIVZAAzFWQAMxVkADMVZAAzFWQAMxVkADMVZAQzNhG0AD"
    "MVZAAzFWQEMzkhNSxjYWbDqQMAAADvv6UVABWKARVyLBWUARUQFQYVBhwAAABFLAMAAACUAQEGFUAgAAkDdANRGAeS"
    "KAvTOA8USRNVWReWaRvXeR8YiiNZmieaqjoeABQrCwAAAAAVBBksNQAYBnNjaGVtYRUCABUMJQIYBWluZGV4JQBMHA"
    "AAABaUARkcGRwmABwVDBk1AAYQGRgFaW5kZXgVAhaUARauCBbaBCbGAyYIKSwVBBUAFQIAFQAVEBUCADwWjAYZBhkm"
    "AJQBAAAAFq4IFpQBJggW2gQAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRkcHAAAAJ4AAABQQVIx"
)
# The same with dictionary_pagesize_limit=64, write_batch_size=8, data_page_size=128: several pages,
# of indices until the dictionary is full, of plain strings from there on, as GloVe's file has.
MIXED = base64.b64decode(
    "UEFSMRUEFYoCFawBTBUeFQASAACFATgDAAAAdGhlBAAAAHJvY2sBCDBqYXp6BQAAAHdvcmQwEQkAMREJADIRCQAzEQ"
    "kANBEJADURCQA2EQkANxEJADgRCQQ5Bg1aLDEwBgAAAHdvcmQxMRUAFRQVGCwVEBUQFQYVBhwAAAAKJAIAAAAQAQID"
    "JCQVABUWFRosFRAVEBUGFQYcAAAACygCAAAAEAEDA4gw1hUAFRgVHCwVEBUQFQYVBhwAAAAMLAIAAAAQAQQDh6nL7R"
    "UAFcwCFaoBLBUgFQAVBhUGHAAAAKYBPAIAAAAgAQYAAAB3b3JkMTIVCgAzFQoANBUKADUVCgA2FQoANxUKADgVCgA5"
    "EQoEMjAVCgAxFQoVZAAyFWQAMhVkADIVZCwyNgYAAAB3b3JkMjcVABXEAhWsASwVIBUAFQYVBhwAAACiATwCAAAAIA"
    "EGAAAAd29yZDI4FQoEOQYNFAQzMBUKADEVCgAyFQoAMxUKADQVCgA1FQoANhUKADcVChVkCDM5BQ1kADARCQAxEQkk"
    "MgUAAAB3b3JkMxUAFcACFawBLBUgFQAVBhUGHAAAAKABOAIAAAAgAQUAAAB3b3JkNBEJADURCQA2EQkANxEJADgRCQ"
    "Q5Bg02BDEwFQoAMRUKADIVCgAzFQoANBUKADUVCgA2FQoANxUKKDgGAAAAd29yZDE5FQAVLBUwLBUEFQAVBhUGHAAA"
    "ABZUAgAAAAQBBQAAAGNhZsOpAwAAAO+/pRUEGSw1ABgGc2NoZW1hFQIAFQwlAhgFaW5kZXglAEwcAAAAFpQBGRwZHC"
    "YAHBUMGTUABhAZGAVpbmRleBUCFpQBFv4MFuIIJtQBJggpPBUEFQAVAgAVABUAFQgAFQAVEBUGADwWjAYZBhkmAJQB"
    "AAAAFv4MFpQBJggW4ggAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRkcHAAAAKUAAABQQVIx"
)


@pytest.mark.parametrize("data", [DICTIONARY, MIXED], ids=["dictionary", "mixed"])
def test_the_words_come_back_in_order(data):
    assert read_words(data, "words.parquet") == WORDS


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1PAR1",
        b"not parquet at all",
        MIXED[:-1],
        MIXED[:200] + b"\xff" * 50 + MIXED[250:],
        DICTIONARY[:20] + b"\x00" * 9 + DICTIONARY[29:],
    ],
)
def test_damaged_bytes_are_an_error_that_names_the_file(data):
    with pytest.raises(InputError, match=r"^words\.parquet: not a Parquet file of words"):
        read_words(data, "words.parquet")
