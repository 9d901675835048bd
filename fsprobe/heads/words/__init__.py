"""Heads made of words: of tags without examples (ESZSL, ConSE, triplets), and as a prior of few
shots.
"""
