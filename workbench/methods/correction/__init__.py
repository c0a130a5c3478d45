"""Corrections: what a model learned by mistake is projected out, trained away, or switched off where it shows.

.. include:: TABLE.md
"""
