"""TRUTH 2: evidence - written once by conditional put, never overwritten, under `<platform_run_id>/…`.

port - what a store of evidence is | s3 - the S3 protocol | keys - the key scheme.
"""
