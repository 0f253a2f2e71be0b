"""Configuration: parsed once into one frozen `Profile` at the edge, all problems reported together.

settings - every setting with its type, default and what would be right | profile - reading and freezing |
packs - pack definitions | dsns - the DSN names, their components and the groups that move together | secrets - the
generated credentials of a run directory.
Nothing below `bootstrap` reads the environment.
"""
