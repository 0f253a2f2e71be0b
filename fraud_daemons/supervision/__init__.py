"""Supervision: the only package that knows supervisord. It starts, watches and stops processes; it knows no business.

launcher - runs in front of every child: parent-death signal, inherited lock, umask | rendering - supervisord.conf from
packs and profile | plugin - lives inside supervisord: wakes it, kills process groups, keeps the audit | client - RPC with
our own deadline | survivors - finds and ends what an earlier supervisord left | engine - supervisord
and the substrate come up | turn - one operator's start or stop under one deadline | lifecycle - up, down, start, stop,
restart | substrate/ - the embedded PostgreSQL and object store.
"""
