"""The reader of GloVe's words against a file that pyarrow 26 wrote, here in base64."""

import base64

from extract.word_vectors.parquet import read_words

WORDS = ["the", "rock", "jazz"] + [f"word{i}" for i in range(40)] + ["café", "￥"]
WORDS += ["x" * 200, "ab" * 40]

# pyarrow.parquet.write_table(table, file, compression="snappy", store_schema=False,
# dictionary_pagesize_limit=64, write_batch_size=8, data_page_size=128): a dictionary, its indices,
# then pages of plain strings, as in GloVe's file.
DATA = base64.b64decode(
    "UEFSMRUEFYgBFWxMFRAVABIAAEQ4AwAAAHRoZQQAAAByb2NrAQgwamF6egUAAAB3b3JkMBEJADERCQAyEQkkMwUAAAB3b3"
    "JkNBUAFRYVGiwVEBUQFQYVBhw2ACgFd29yZDQYBGphenoREQAAAAsoAgAAABABAwOIxvoVABXCAhWsASwVIBUAFQYVBhw2"
    "ACgFd29yZDkYBndvcmQxMBERAAAAoQE4AgAAACABBQAAAHdvcmQ1EQkANhEJADcRCQA4EQkEOQYNLQQxMBUKADEVCgAyFQ"
    "oAMxUKADQVCgA1FQoANhUKADcVCgA4FQooOQYAAAB3b3JkMjAVABXMAhWsASwVIBUAFQYVBhw2ACgGd29yZDM2GAZ3b3Jk"
    "MjEREQAAAKYBPAIAAAAgAQYAAAB3b3JkMjEVCgAyFQoAMxUKADQVCgA1FQoANhUKADcVCgA4FQoEOQYNWgQzMBUKFWQAMx"
    "VkADMVZAAzFWQsMzUGAAAAd29yZDM2FQAVqAUVkAEsFQ4VABUGFQYcNgAoA++/pRhQYWJhYmFiYWJhYmFiYWJhYmFiYWJh"
    "YmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWIREQAAANQCPAIAAA"
    "AOAQYAAAB3b3JkMzcVCgA4FQpUOQUAAABjYWbDqQMAAADvv6XIAAAAeP4BAP4BAP4BAA0BFFAAAABhYv4CADYCABUEGSw1"
    "ABgGc2NoZW1hFQIAFQwlAhgFaW5kZXglAEwcAAAAFl4ZHBkcJgAcFQwZNQAGEBkYBWluZGV4FQIWXha8DxbWCCaSASYIHD"
    "YAKAPvv6UYUGFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFiYWJhYmFi"
    "YWJhYmFiYWJhYmFiYWJhYmFiEREAGTwVBBUAFQIAFQAVABUGABUAFRAVAgA8FqIIGQYZJgBeAAAAFrwPFl4mCBbWCAAoIH"
    "BhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAA/gAAAFBBUjE="
)


def test_the_words_come_back_in_order():
    assert read_words(DATA, len(WORDS)) == WORDS
