-- The order of changes, the counters, the partitions, the roles and the second wall.

CREATE SEQUENCE change_sequence;

-- Takes the next sequence under a lock held until COMMIT: commits happen in order of sequence, so a
-- reader at n misses nothing below n, and received_at never runs against sequence.
CREATE FUNCTION publish_change(p_batch bigint, p_kind text, p_detail jsonb)
RETURNS TABLE (sequence bigint, received_at timestamptz)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    previous timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(7101);
    SELECT c.received_at INTO previous FROM change c ORDER BY c.sequence DESC LIMIT 1;
    INSERT INTO change AS c (sequence, batch_id, kind, received_at, detail)
    VALUES (nextval('change_sequence'), p_batch, p_kind,
            greatest(clock_timestamp(), previous), p_detail)
    RETURNING c.sequence, c.received_at INTO sequence, received_at;
    PERFORM pg_notify('yutu', sequence::text);
    RETURN NEXT;
END $$;

-- Counters. Statement-level, on facility_state only. SECURITY DEFINER with a fixed search_path, so
-- that no row-level policy of the writer can hide a row from the count.
CREATE FUNCTION count_inserted_states() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO counter_delta
        (batch_id, group_id, total, unknown, degraded, down,
         load_kw, load_unknown_kw, load_down_kw, customers, customers_unknown, customers_down,
         valid_from)
    SELECT batch_id, group_id, count(*),
           count(*) FILTER (WHERE state = 'unknown'),
           count(*) FILTER (WHERE state = 'degraded'),
           count(*) FILTER (WHERE state = 'down'),
           sum(load_kw),
           coalesce(sum(load_kw) FILTER (WHERE state = 'unknown'), 0),
           coalesce(sum(load_kw) FILTER (WHERE state = 'down'), 0),
           sum(customers),
           coalesce(sum(customers) FILTER (WHERE state = 'unknown'), 0),
           coalesce(sum(customers) FILTER (WHERE state = 'down'), 0),
           valid_from
    FROM fresh WHERE counted GROUP BY batch_id, group_id, valid_from;
    RETURN NULL;
END $$;

-- Its plan is made once a session, perhaps for a few rows, and then serves a hundred thousand: a
-- nested loop over the two row sets would take time in their product.
CREATE FUNCTION count_changed_states() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET enable_nestloop = off AS $$
BEGIN
    INSERT INTO counter_delta
        (batch_id, group_id, total, unknown, degraded, down,
         load_kw, load_unknown_kw, load_down_kw, customers, customers_unknown, customers_down)
    SELECT * FROM (
        SELECT batch_id, group_id, sum(n) AS total,
               coalesce(sum(n) FILTER (WHERE state = 'unknown'), 0) AS unknown,
               coalesce(sum(n) FILTER (WHERE state = 'degraded'), 0) AS degraded,
               coalesce(sum(n) FILTER (WHERE state = 'down'), 0) AS down,
               sum(n * load_kw) AS load_kw,
               coalesce(sum(n * load_kw) FILTER (WHERE state = 'unknown'), 0) AS load_unknown_kw,
               coalesce(sum(n * load_kw) FILTER (WHERE state = 'down'), 0) AS load_down_kw,
               sum(n * customers) AS customers,
               coalesce(sum(n * customers) FILTER (WHERE state = 'unknown'), 0) AS customers_unknown,
               coalesce(sum(n * customers) FILTER (WHERE state = 'down'), 0) AS customers_down
        FROM (
            SELECT f.batch_id, f.group_id, f.state, f.load_kw, f.customers, 1 AS n
            FROM fresh f WHERE f.counted
            UNION ALL
            SELECT f.batch_id, s.group_id, s.state, s.load_kw, s.customers, -1
            FROM stale s JOIN fresh f USING (facility_pk) WHERE s.counted
        ) moved
        GROUP BY batch_id, group_id
    ) summed
    WHERE (total, unknown, degraded, down, load_kw, customers) <> (0, 0, 0, 0, 0, 0)
       OR (load_unknown_kw, load_down_kw, customers_unknown, customers_down) <> (0, 0, 0, 0);
    RETURN NULL;
END $$;

CREATE FUNCTION refuse_deleting_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'facility_state rows are retired (counted = false), never deleted';
END $$;

CREATE TRIGGER count_inserted AFTER INSERT ON facility_state
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION count_inserted_states();
CREATE TRIGGER count_changed AFTER UPDATE ON facility_state
    REFERENCING OLD TABLE AS stale NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION count_changed_states();
CREATE TRIGGER refuse_delete BEFORE DELETE ON facility_state
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deleting_states();

-- The status log: a month a partition, made ahead; the default one catches what no month holds.
CREATE TABLE status_log_default PARTITION OF status_log DEFAULT;
CREATE FUNCTION ensure_status_partitions(p_months_ahead integer DEFAULT 2) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    starts timestamptz;
    title text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7102);
    FOR i IN 0..p_months_ahead LOOP
        starts := date_trunc('month', now()) + make_interval(months => i);
        title := 'status_log_' || to_char(starts, 'YYYYMM');
        IF to_regclass(title) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE %I PARTITION OF status_log FOR VALUES FROM (%L) TO (%L)',
                    title, starts, starts + interval '1 month');
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                -- nothing was served for months, and the first rows since lie in the default one
                RAISE WARNING 'partition % not made: the default partition holds its rows', title;
            END;
        END IF;
    END LOOP;
    RETURN made;
END $$;
SELECT ensure_status_partitions();

INSERT INTO fold DEFAULT VALUES;
ALTER TABLE batch ALTER COLUMN body SET COMPRESSION lz4;
ALTER TABLE situation_bytes ALTER COLUMN body SET COMPRESSION lz4;
ALTER TABLE counter SET (fillfactor = 50);

-- Which district and unit each facility has, in every division version.
CREATE VIEW facility_division WITH (security_invoker = true) AS
    SELECT f.pk AS facility_pk, f.facility_id, d.version_id, d.adcode, d.unit
    FROM facility f JOIN placement_division d USING (placement_id);

-- The role of the API. It owns nothing, deletes nothing that is a record, and cannot write a
-- partition past the parent's triggers.
DO $$ BEGIN
    CREATE ROLE yutu_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'yutu_app', 'MEMBER') THEN
        EXECUTE format('GRANT yutu_app TO %I', current_user);
    END IF;
EXCEPTION WHEN unique_violation THEN
    NULL;
END $$;
GRANT USAGE ON SCHEMA public TO yutu_app;
-- imports stage their rows in a temporary table; a server may have taken this right from PUBLIC
DO $$ BEGIN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO yutu_app', current_database());
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO yutu_app;
GRANT INSERT ON batch, change, placement, placement_division, facility, facility_past,
    counter_group, facility_state, status_ledger, status_log, counter, counter_checkpoint,
    source_report, source_latest, operator_return, outage, incident, incident_conflict, incident_revision,
    plan_facts, situation_bytes, stream_event, account TO yutu_app;
GRANT UPDATE ON facility, facility_state, counter, fold, source_latest, account TO yutu_app;
GRANT DELETE ON situation_bytes TO yutu_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO yutu_app;
REVOKE ALL ON status_log_default FROM yutu_app;
REVOKE ALL ON FUNCTION ensure_status_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_status_partitions(integer) TO yutu_app;

-- Row-level security: a transaction sees the districts it named; unset sees nothing.
ALTER TABLE facility ENABLE ROW LEVEL SECURITY;
ALTER TABLE facility_past ENABLE ROW LEVEL SECURITY;
ALTER TABLE incident ENABLE ROW LEVEL SECURITY;
ALTER TABLE outage ENABLE ROW LEVEL SECURITY;
CREATE POLICY scope ON facility TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
);
CREATE POLICY scope ON facility_past TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
);
CREATE POLICY scope ON incident TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
    OR account = (SELECT current_setting('app.account', true))
);
CREATE POLICY scope ON outage TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcodes && ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
);

-- Under row-level security the planner may use a GiST index only through leakproof functions. Both
-- raise no error that depends on the data they compare (validity is a CHECK on every table), so
-- they tell nothing of hidden rows. Needs a superuser: without one queries are right but slower.
DO $$ BEGIN
    ALTER FUNCTION geometry_overlaps(geometry, geometry) LEAKPROOF;
    ALTER FUNCTION st_intersects(geometry, geometry) LEAKPROOF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'not a superuser: spatial queries by scoped accounts will not use the index';
END $$;
