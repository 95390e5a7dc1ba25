"""Parallel text, from files to batches of tokens.

corpora        what data sets there are, and where their sentences stand
files          lines of text files, plain, gzipped, of a tar archive or of SGML
number_words   the built-in data set: numbers in words, made by rules
cleaning       which pairs are left out of training
subwords       the vocabulary, learnt by SentencePiece
prepared       all of it as tokens, in the cache
command        the same, typed
batches        an epoch's batches, a pure function of (data, seed, epoch)
"""
