-- What planners read: one view a collection, in a schema of their own, and a role that reads these
-- columns and nothing else. The functions take a sequence or a time, so that exports of the past use
-- the same definitions. Views are security_invoker: row-level security sees the reader.

DO $$ BEGIN
    CREATE ROLE yutu_reader NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'yutu_reader', 'MEMBER') THEN
        EXECUTE format('GRANT yutu_reader TO %I', current_user);
    END IF;
EXCEPTION WHEN unique_violation THEN
    NULL;
END $$;

CREATE SCHEMA ogc;

-- The newest revision of every outage known at a sequence. Which one is the newest must not depend
-- on who asks, or a scoped reader would be shown one that is superseded: SECURITY DEFINER.
CREATE FUNCTION outage_newest(through bigint) RETURNS TABLE (outage_id text, revision integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT DISTINCT ON (o.outage_id) o.outage_id, o.revision
    FROM outage o JOIN change h ON h.batch_id = o.batch_id JOIN batch b ON b.id = o.batch_id
    WHERE h.sequence <= through
    ORDER BY o.outage_id,
             (NOT o.planned AND o.started_at > b.opened_at + interval '5 minutes'), o.revision DESC
$$;

CREATE FUNCTION outages_known(through bigint, moment timestamptz) RETURNS TABLE (
    outage_id text, revision integer, operator text, cause text, planned boolean,
    main_grid boolean, open boolean, applied boolean, load_shed_kw bigint, customers_out bigint,
    restored_load_kw bigint, started_at timestamptz, restored_at timestamptz,
    estimated_restoration text, received_at timestamptz, facility_ids text[], adcodes text[],
    geom geometry(Geometry, 4326)
) LANGUAGE sql STABLE AS $$
    SELECT o.outage_id, o.revision, o.operator,
           coalesce(o.feature -> 'properties' ->> 'cause', 'unknown'), o.planned, o.main_grid,
           f.applied AND (o.restored_at IS NULL OR o.restored_at > moment)
               AND (NOT o.planned OR o.started_at <= moment),
           f.applied, o.load_shed_kw, o.customers_out, o.restored_load_kw, o.started_at,
           o.restored_at, o.feature -> 'properties' ->> 'estimated_restoration', h.received_at,
           o.facility_ids, o.adcodes, o.geom
    FROM outage o
    JOIN outage_newest(through) n ON n.outage_id = o.outage_id AND n.revision = o.revision
    JOIN batch b ON b.id = o.batch_id
    JOIN change h ON h.batch_id = o.batch_id
    CROSS JOIN LATERAL (
        SELECT o.planned OR o.started_at <= b.opened_at + interval '5 minutes' AS applied
    ) f
$$;

-- No reporter, no telephone number, no free text: those stand in `body`, which is not read here.
CREATE FUNCTION incidents_known(through bigint) RETURNS TABLE (
    incident_id text, plan text, kind text, state text, possible boolean, occurred_at timestamptz,
    received_at timestamptz, adcode text, unit text, facility_id text, accuracy_m double precision,
    version integer, duplicate_of text, facts jsonb, geom geometry(Point, 4326)
) LANGUAGE sql STABLE AS $$
    SELECT i.incident_id::text, i.plan, i.kind, r.state,
           coalesce(r.facts -> 'possible' = 'true'::jsonb, false), i.occurred_at, b.opened_at,
           i.adcode, i.unit, i.facility_id, i.accuracy_m, r.version, r.duplicate_of::text, r.facts,
           i.geom
    FROM incident i
    JOIN batch b ON b.id = i.batch_id
    JOIN LATERAL (
        SELECT n.version, n.state, n.facts, n.duplicate_of
        FROM incident_revision n JOIN change h ON h.batch_id = n.batch_id
        WHERE n.incident_id = i.incident_id AND h.sequence <= through
        ORDER BY n.version DESC LIMIT 1
    ) r ON true
$$;

CREATE FUNCTION districts_at(moment timestamptz) RETURNS TABLE (
    adcode text, name text, name_en text, population integer, population_source text,
    area_m2 double precision, approximate boolean, source text, licence text,
    valid_from timestamptz, valid_to timestamptz, geom geometry(MultiPolygon, 4326)
) LANGUAGE sql STABLE AS $$
    SELECT d.adcode, d.name, d.name_en, d.population, d.population_source, d.area_m2,
           d.approximate, d.source, v.licence, v.valid_from, v.valid_to, d.geom
    FROM district d JOIN division_version v ON v.id = d.version_id
    WHERE v.valid_from <= moment AND (v.valid_to IS NULL OR v.valid_to > moment)
$$;

-- A situation document, as `GET /v1/situation` answers it, as one row a district. Plans are found by
-- the part of their id before the year, so that a new edition of a plan keeps its column.
CREATE FUNCTION situation_rows(document jsonb, moment timestamptz) RETURNS TABLE (
    adcode text, name text, name_en text, level integer, level_communications integer,
    level_power integer, level_special_equipment integer, open_incidents bigint,
    facilities_total bigint, facilities_down bigint, facilities_unknown bigint,
    base_stations_total bigint, base_stations_down bigint, base_stations_unknown bigint,
    base_stations_share_down double precision, substations_total bigint, substations_down bigint,
    load_mw double precision, load_shed_mw double precision, load_share double precision,
    customers_total bigint, customers_out bigint, customers_share double precision,
    population integer, population_affected bigint, power_area_share double precision,
    as_of timestamptz, sequence bigint, geom geometry(MultiPolygon, 4326)
) LANGUAGE sql STABLE AS $$
    SELECT d.adcode, d.name, d.name_en, (s ->> 'level')::integer,
           (SELECT min(value::integer) FROM jsonb_each_text(s -> 'plans')
            WHERE key LIKE 'communications-%'),
           (SELECT min(value::integer) FROM jsonb_each_text(s -> 'plans')
            WHERE key LIKE 'power-outage-%'),
           (SELECT min(value::integer) FROM jsonb_each_text(s -> 'plans')
            WHERE key LIKE 'special-equipment-%'),
           (SELECT sum(value::bigint)::bigint FROM jsonb_each_text(s -> 'incidents')),
           f.total, f.down, f.unknown,
           (s #>> '{facilities,base_station,total}')::bigint,
           (s #>> '{facilities,base_station,down}')::bigint,
           (s #>> '{facilities,base_station,unknown}')::bigint,
           (s #>> '{facilities,base_station,share_down}')::double precision,
           (s #>> '{facilities,substation,total}')::bigint,
           (s #>> '{facilities,substation,down}')::bigint,
           (s #>> '{load,load_mw}')::double precision,
           (s #>> '{load,load_shed_mw}')::double precision,
           (s #>> '{load,share}')::double precision,
           (s #>> '{customers,total}')::bigint,
           (s #>> '{customers,out}')::bigint,
           (s #>> '{customers,share}')::double precision,
           d.population,
           (s ->> 'population_affected')::bigint,
           (s #>> '{area_share,substation,any}')::double precision,
           (document ->> 'as_of')::timestamptz,
           (document ->> 'sequence')::bigint,
           d.geom
    FROM districts_at(moment) d
    LEFT JOIN jsonb_array_elements(document -> 'districts') s ON s ->> 'adcode' = d.adcode
    LEFT JOIN LATERAL (
        SELECT sum((value ->> 'total')::bigint)::bigint AS total,
               sum((value ->> 'down')::bigint)::bigint AS down,
               sum((value ->> 'unknown')::bigint)::bigint AS unknown
        FROM jsonb_each(s -> 'facilities')
    ) f ON true
$$;

CREATE VIEW ogc.districts WITH (security_invoker = true) AS
    SELECT * FROM public.districts_at(now());

-- The state by a left join on a unique key: where it is not asked for, the join is left out.
CREATE VIEW ogc.facilities WITH (security_invoker = true) AS
    SELECT f.facility_id, f.name, f.kind, f.operator, f.network, s.state::text AS state,
           nullif(s.observed_at, '-infinity') AS observed_at, f.adcode, f.unit, f.main_grid,
           f.load_kw, f.customers, f.population, f.feeds_from, f.battery_hours, f.key_level,
           f.rescue_code, f.synthetic, f.version, f.valid_from, f.geom
    FROM public.facility f
    LEFT JOIN public.facility_state s ON s.facility_pk = f.pk
    WHERE f.retired_at IS NULL;

CREATE VIEW ogc.incidents WITH (security_invoker = true) AS
    SELECT * FROM public.incidents_known(9223372036854775807);

CREATE VIEW ogc.outages WITH (security_invoker = true) AS
    SELECT * FROM public.outages_known(9223372036854775807, now());

CREATE VIEW ogc.situation WITH (security_invoker = true) AS
    SELECT r.*
    FROM (
        SELECT convert_from(body, 'UTF8')::jsonb AS document FROM public.situation_bytes
        WHERE lang = 'zh' ORDER BY sequence DESC LIMIT 1
    ) newest, public.situation_rows(newest.document, now()) r;

COMMENT ON VIEW ogc.districts IS '区县：现行区划 · Districts in force now';
COMMENT ON VIEW ogc.facilities IS '设施及其现状 · Facilities in force and their state';
COMMENT ON VIEW ogc.incidents IS '事件，不含报告人 · Incidents, without reporters';
COMMENT ON VIEW ogc.outages IS '停电：每起的最新一版 · Outages, the newest revision of each';
COMMENT ON VIEW ogc.situation IS '各区县态势 · The graded situation, a row per district';

REVOKE ALL ON FUNCTION outage_newest(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outage_newest(bigint) TO yutu_app, yutu_reader;
GRANT USAGE ON SCHEMA public, ogc TO yutu_reader;
GRANT USAGE ON SCHEMA ogc TO yutu_app;
GRANT SELECT ON ALL TABLES IN SCHEMA ogc TO yutu_reader, yutu_app;
-- what the owner adds to this schema later is published: it appears without a restart
ALTER DEFAULT PRIVILEGES IN SCHEMA ogc GRANT SELECT ON TABLES TO yutu_reader, yutu_app;
GRANT SELECT ON district, division_version, facility_state, situation_bytes, change TO yutu_reader;
GRANT SELECT (id, opened_at) ON batch TO yutu_reader;
GRANT SELECT (pk, facility_id, name, kind, operator, network, unit, main_grid, load_kw, customers,
    population, feeds_from, battery_hours, key_level, rescue_code, synthetic, geom, adcode,
    valid_from, version, retired_at) ON facility TO yutu_reader;
GRANT SELECT (incident_id, batch_id, plan, kind, occurred_at, accuracy_m, facility_id, geom, adcode,
    unit) ON incident TO yutu_reader;
GRANT SELECT (incident_id, version, batch_id, state, facts, duplicate_of) ON incident_revision
    TO yutu_reader;
GRANT SELECT (outage_id, revision, batch_id, operator, feature, geom, facility_ids, load_shed_kw,
    customers_out, restored_load_kw, started_at, restored_at, planned, main_grid, adcodes)
    ON outage TO yutu_reader;

CREATE POLICY reader_scope ON facility FOR SELECT TO yutu_reader USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
);
CREATE POLICY reader_scope ON incident FOR SELECT TO yutu_reader USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
    OR account = (SELECT current_setting('app.account', true))
);
CREATE POLICY reader_scope ON outage FOR SELECT TO yutu_reader USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcodes && ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
);
