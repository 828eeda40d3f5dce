"""Results of runs: tables, published numbers, choice by budget. Loads no TensorFlow."""
