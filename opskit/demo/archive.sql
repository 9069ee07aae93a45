-- An old database that nobody dares to drop; its name has blanks, quotes and umlauts.
CREATE TABLE "Rechnungen 2024" (
    "Nr." int PRIMARY KEY,
    "Empfänger" text NOT NULL,
    "Betrag (€)" numeric(10, 2) NOT NULL,
    "bezahlt?" boolean NOT NULL
);
INSERT INTO "Rechnungen 2024"
SELECT i, 'Kundin "' || md5(i::text) || '" & Söhne', (i % 977) + 0.99, i % 13 <> 0 FROM generate_series(1, 20000) AS i;
