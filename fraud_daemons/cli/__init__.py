"""The `platform` command: thin click commands, one file each, loaded only when called.

A command `NAME` is the file `NAME.py` in this folder, exposing `command` (a click command or group). Adding one is adding
that file and, for its line in `platform --help`, an entry in `main.COMMANDS`. Arguments that every command has (--json,
--profile, --root) come from `options.invocation`; answers and errors go through it too.
"""
