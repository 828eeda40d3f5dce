"""What runs have measured: tables, published numbers, choice by budget. Loads no TensorFlow."""
