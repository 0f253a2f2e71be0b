"""Pure rules: no I/O, no clock, no logging. Everything here can be computed again from its arguments.

identity - ids and hashes | envelope - the event on the wire | schemas - what the gate lets in |
binding - context release | features - windows and vector | posture - what each mode allows |
policy, decisions - rules to outcome | actions - who may ask for what | audit - the lineage chain |
cases - triggers and the merge rule | labels - as-of and precedence
"""
