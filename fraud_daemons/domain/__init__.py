"""Pure rules: no I/O, no clock, no logging. Everything here can be computed again from its arguments.

identity - ids and hashes | envelope - the event on the wire | binding - context release | features - windows and vector |
policy, decisions - rules to outcome | actions - who may ask for what | cases - merge rule | labels - as-of and precedence |
posture - what each mode allows
"""
