"""The same numbers sooner: each saving is compared with the plain path before it is used."""
