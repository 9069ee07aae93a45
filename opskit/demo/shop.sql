-- The shop's own database: what a small mail-order business would have after two years. The same rows every time.
SET jit = off;
SELECT setseed(0.1828);

CREATE SCHEMA catalogue;
CREATE SCHEMA sales;
CREATE SCHEMA feedback;
CREATE SCHEMA web;
CREATE SCHEMA "Lager & Büro";
COMMENT ON SCHEMA "Lager & Büro" IS 'Names with blanks, quotes and umlauts are ordinary names, too';

CREATE TABLE catalogue.categories (
    id int PRIMARY KEY,
    name text NOT NULL UNIQUE
);
INSERT INTO catalogue.categories
SELECT n, name FROM unnest(ARRAY[
    'Kitchen', 'Garden', 'Bath', 'Office', 'Outdoor', 'Toys', 'Lighting', 'Textiles', 'Tools', 'Café & Tea'
]) WITH ORDINALITY AS c(name, n);

CREATE TABLE catalogue.products (
    id int PRIMARY KEY,
    sku text NOT NULL UNIQUE,
    category_id int NOT NULL,
    name text NOT NULL,
    price numeric(8, 2) NOT NULL CHECK (price > 0),
    attributes jsonb NOT NULL,
    photo oid
);
INSERT INTO catalogue.products (id, sku, category_id, name, price, attributes)
SELECT
    i,
    'SKU-' || lpad(i::text, 5, '0'),
    1 + i % 10,
    (ARRAY['Small', 'Large', 'Folding', 'Classic', 'Nordic', 'Rustic', 'Modern', 'Enamelled'])[1 + floor(random() * 8)]
        || ' ' || (ARRAY['oak', 'steel', 'linen', 'copper', 'glass', 'bamboo', 'wool', 'cork'])[1 + floor(random() * 8)]
        || ' ' || (ARRAY['kettle', 'lamp', 'basket', 'bench', 'jug', 'blanket', 'shelf', 'tray', 'stool', 'puzzle'])[1 + floor(random() * 10)],
    round((4 + 120 * random() ^ 2)::numeric, 2),
    jsonb_build_object(
        'colour', (ARRAY['blue', 'red', 'green', 'natural', 'grün', 'weiß'])[1 + floor(random() * 6)],
        'weight_grams', 50 + floor(random() * 4000)::int,
        'sizes', (ARRAY['["S", "M", "L"]', '["one"]', '["30 cm", "60 cm"]'])[1 + floor(random() * 3)]::jsonb
    )
FROM generate_series(1, 2000) AS i;

-- Photos are large objects: pictures in the PPM format, 96 by 96 pixels.
UPDATE catalogue.products AS p
SET photo = lo_from_bytea(700000 + p.id, 'P6 96 96 255 '::bytea || (
    SELECT string_agg(decode(md5((p.id * 1000 + n)::text), 'hex'), ''::bytea ORDER BY n) FROM generate_series(1, 1728) AS n
))
WHERE id <= 60;

CREATE TABLE sales.customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    city text NOT NULL,
    joined_at timestamptz NOT NULL
);
INSERT INTO sales.customers (name, email, city, joined_at)
SELECT
    first || ' ' || last,
    lower(first) || '.' || i || '@example.com',
    (ARRAY['Berlin', 'Köln', 'Zürich', 'Wien', 'Leeds', 'Lyon', 'Malmö', 'Łódź', 'Porto', 'Gent'])[1 + floor(10 * random() ^ 1.5)],
    timestamptz '2025-01-01' + random() * interval '660 days'
FROM generate_series(1, 20000) AS i, LATERAL (
    SELECT
        i AS of_row, -- without it one person would do for all rows
        (ARRAY['Ada', 'Ben', 'Chloe', 'David', 'Elif', 'Finn', 'Greta', 'Hugo', 'Ines', 'Jonas', 'Kim', 'Lea'])[1 + floor(random() * 12)] AS first,
        (ARRAY['Adler', 'Brown', 'Çelik', 'Dupont', 'O''Neill', 'Fischer', 'García', 'Müller', 'Novák', 'Smith'])[1 + floor(random() * 10)] AS last
) AS person;

CREATE TABLE sales.orders (
    id int NOT NULL,
    ordered_at timestamptz NOT NULL,
    customer_id int NOT NULL,
    status text NOT NULL,
    total numeric(10, 2) NOT NULL DEFAULT 0,
    PRIMARY KEY (id, ordered_at)
) PARTITION BY RANGE (ordered_at);
DO $$
DECLARE
    month date := '2025-01-01';
BEGIN
    WHILE month < '2026-11-01' LOOP
        EXECUTE format(
            'CREATE TABLE sales.orders_%s PARTITION OF sales.orders FOR VALUES FROM (%L) TO (%L)',
            to_char(month, 'YYYY_MM'), month, month + interval '1 month');
        month := month + interval '1 month';
    END LOOP;
END
$$;
CREATE TABLE sales.orders_later PARTITION OF sales.orders DEFAULT;

CREATE TABLE sales.order_lines (
    order_id int NOT NULL,
    line int NOT NULL,
    product_id int NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    price numeric(8, 2) NOT NULL
);
INSERT INTO sales.order_lines
SELECT d.id, d.line, d.product_id, d.quantity, p.price
FROM (
    SELECT i AS id, line, 1 + floor(2000 * random() ^ 1.6)::int AS product_id, 1 + floor(4 * random() ^ 3)::int AS quantity
    FROM generate_series(1, 100000) AS i, generate_series(1, 1 + (i * 7919) % 4) AS line
) AS d JOIN catalogue.products AS p ON p.id = d.product_id
ORDER BY d.id, d.line;

INSERT INTO sales.orders
SELECT
    i,
    -- the business grows, and sleeps at night
    date_trunc('day', timestamptz '2025-01-01' + 668 * (i / 100001.0) ^ 0.75 * interval '1 day')
        + (6 + 17 * random()) * interval '1 hour',
    1 + floor(20000 * random() ^ 1.3)::int,
    (ARRAY['delivered', 'delivered', 'delivered', 'delivered', 'returned', 'cancelled'])[1 + floor(random() * 6)],
    l.total
FROM generate_series(1, 100000) AS i
JOIN (SELECT order_id, sum(quantity * price) AS total FROM sales.order_lines GROUP BY order_id) AS l ON l.order_id = i;
ALTER TABLE sales.order_lines ADD PRIMARY KEY (order_id, line);
CREATE INDEX ON sales.order_lines (product_id);
CREATE INDEX ON sales.orders (customer_id);

CREATE VIEW sales.revenue_by_month AS
SELECT date_trunc('month', ordered_at)::date AS month, count(*) AS orders, sum(total) AS revenue
FROM sales.orders WHERE status = 'delivered' GROUP BY 1;
CREATE MATERIALIZED VIEW sales.best_sellers AS
SELECT p.id, p.name, sum(l.quantity) AS sold
FROM sales.order_lines AS l JOIN catalogue.products AS p ON p.id = l.product_id
GROUP BY p.id ORDER BY sold DESC, p.id LIMIT 100;

CREATE TABLE feedback.reviews (
    id int PRIMARY KEY,
    product_id int NOT NULL,
    customer_id int NOT NULL,
    stars int NOT NULL CHECK (stars BETWEEN 1 AND 5),
    body text NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED
);
INSERT INTO feedback.reviews
SELECT
    i,
    1 + floor(2000 * random() ^ 1.6)::int,
    1 + floor(20000 * random())::int,
    stars,
    (ARRAY['Not what I hoped for.', 'It does its job.', 'I would buy it again at once.', 'Ein schönes Stück!'])[1 + (stars + i) % 4]
        || ' ' || (ARRAY['It arrived after three days', 'The parcel was late', 'Delivery was quick', 'A neighbour took it in'])[1 + floor(random() * 4)]
        || ', and ' || (ARRAY['the colour is lovely', 'the handle came loose', 'my cat sleeps on it', 'it looks better than the photo'])[1 + floor(random() * 4)]
        || '. ' || (ARRAY['We use it every morning.', 'The children like it too.', 'It is heavier than it looks.', 'Für den Preis sehr gut.'])[1 + floor(random() * 4)]
        || ' Bought together with no. ' || floor(random() * 2000)::int || '.'
FROM (SELECT i, 1 + floor(5 * random() ^ 0.5)::int AS stars FROM generate_series(1, 12000) AS i) AS r;
CREATE INDEX ON feedback.reviews USING gin (words);

-- Unlogged: a base backup has its definition but none of its rows.
CREATE UNLOGGED TABLE web.sessions (
    id uuid PRIMARY KEY,
    customer_id int,
    seen_at timestamptz NOT NULL
);
INSERT INTO web.sessions
SELECT md5(i::text)::uuid, 1 + i % 20000, timestamptz '2026-10-31' - i * interval '1 second'
FROM generate_series(1, 10000) AS i;

CREATE TABLE "Lager & Büro"."Bestände (Stück)" (
    "Artikel-Nr." int PRIMARY KEY,
    "Stück" int NOT NULL,
    "Regal ""oben""" text
);
INSERT INTO "Lager & Büro"."Bestände (Stück)"
SELECT id, (id * 37) % 250, CASE WHEN id % 9 = 0 THEN 'Regal ' || id % 40 END FROM catalogue.products;
CREATE TABLE "Lager & Büro"."the manager's list" (item text PRIMARY KEY, done boolean NOT NULL DEFAULT false);
INSERT INTO "Lager & Büro"."the manager's list"
VALUES ('count the jugs'), ('order "nice" paper'), ('back up the database'), ('try the restore');

-- Checked once for all rows, which is quicker than row by row.
ALTER TABLE catalogue.products ADD FOREIGN KEY (category_id) REFERENCES catalogue.categories;
ALTER TABLE sales.orders ADD FOREIGN KEY (customer_id) REFERENCES sales.customers;
ALTER TABLE sales.order_lines ADD FOREIGN KEY (product_id) REFERENCES catalogue.products;
ALTER TABLE feedback.reviews
    ADD FOREIGN KEY (product_id) REFERENCES catalogue.products,
    ADD FOREIGN KEY (customer_id) REFERENCES sales.customers;
ALTER TABLE "Lager & Büro"."Bestände (Stück)" ADD FOREIGN KEY ("Artikel-Nr.") REFERENCES catalogue.products;

GRANT USAGE ON SCHEMA catalogue, sales, feedback, web TO shop;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA catalogue, sales, feedback, web TO shop;
