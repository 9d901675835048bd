"""Vectors of words, and of tags made of them: where they come from and the rule by which a tag gets
one.
"""
