"""The web page and the metrics: what `platform status` says, what the tables say, drawn once for everybody who looks.

    board       one picture, shared by all pages; pages wait on it
    status      looks at processes, beats and the audit; asks no database
    tables      reads how far topics, stages, cases and reports are
    timeline    the audit file, read as it grows
    access      the token, sessions, and how fast they may be guessed
    web         the pages, the stream and the metrics as a WSGI application
    exposition  the picture in Prometheus' words
    hook        tells a receiver when a worker is in trouble, and when it is over
    static/     the page itself, and uPlot (MIT, its licence beside it)

It refuses to change anything: there is no route that writes, and every transaction is read only.
"""
