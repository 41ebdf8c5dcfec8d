"""MMMIE: mutual information maximised and minimised, and identity embedding, after an abstract."""
