-- Everything that migrations make: columns with type and default, indexes, constraints, triggers. One text each.
select 'column ' || n.nspname || '.' || c.relname || '.' || a.attname,
       format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end
       || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
from pg_attribute a
join pg_class c on c.oid = a.attrelid
join pg_namespace n on n.oid = c.relnamespace
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
union all
select 'index ' || n.nspname || '.' || t.relname || '.' || c.relname, pg_get_indexdef(i.indexrelid)
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_class t on t.oid = i.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and i.indisvalid
union all
select 'constraint ' || n.nspname || '.' || t.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
from pg_constraint k
join pg_class t on t.oid = k.conrelid
join pg_namespace n on n.oid = t.relnamespace
where n.nspname = any(%(schemas)s)
union all
select 'trigger ' || n.nspname || '.' || t.relname || '.' || g.tgname, pg_get_triggerdef(g.oid)
from pg_trigger g
join pg_class t on t.oid = g.tgrelid
join pg_namespace n on n.oid = t.relnamespace
where n.nspname = any(%(schemas)s) and not g.tgisinternal and g.tgenabled <> 'D'
