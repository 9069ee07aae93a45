-- What the web site's visitors did, on the slow disk: a tablespace. The same rows every time.
SET jit = off;
SELECT setseed(0.4590);

CREATE SCHEMA facts;
CREATE TABLE facts.page_views (
    id bigint NOT NULL,
    viewed_at timestamptz NOT NULL,
    path text NOT NULL,
    visitor uuid NOT NULL,
    milliseconds real NOT NULL
) TABLESPACE "slow disk";
INSERT INTO facts.page_views
SELECT
    i,
    timestamptz '2026-06-01' + i * interval '1 minute',
    '/' || (ARRAY['', 'product/', 'cart', 'search?q=', 'über-uns'])[1 + floor(5 * random() ^ 2)] || floor(random() * 2000)::int,
    md5(floor(9000 * random() ^ 2)::text)::uuid,
    -40 * ln(1 - random())
FROM generate_series(1, 130000) AS i;
CREATE INDEX page_views_viewed_at ON facts.page_views USING brin (viewed_at) TABLESPACE "slow disk";
ALTER TABLE facts.page_views ADD PRIMARY KEY (id) USING INDEX TABLESPACE "slow disk";

CREATE TABLE facts.visits_by_day AS
SELECT viewed_at::date AS day, count(*) AS views, count(DISTINCT visitor) AS visitors, avg(milliseconds) AS milliseconds
FROM facts.page_views GROUP BY 1 ORDER BY 1;
