"""Configuration: parsed once into one frozen `Profile` at the edge, all problems reported together.

settings - every setting with its type, default and what would be right | profiles - reading and freezing |
packs - pack definitions | dsns - the DSN names, their components and the groups that move together | secrets_file - the
generated credentials of a run directory.
Nothing below `bootstrap` reads the environment.
"""
