"""The local demo: the bookstore story with real Envoys, little applications and a live view."""
