-- headwater: materialization = replace
SELECT 'hello, ' || name AS greeting, languages
FROM people
ORDER BY name
