"""Tests of single widgets in a real browser."""
