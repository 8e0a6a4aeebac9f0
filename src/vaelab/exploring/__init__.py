"""Explore a latent: one page that decodes z as its reader moves it, or shows pictures that were computed before."""
