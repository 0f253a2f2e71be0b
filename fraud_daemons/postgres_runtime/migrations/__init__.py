"""Plain-SQL migrations, one directory per schema; applied by `platform up` in `postgres_runtime.provisioning`."""
