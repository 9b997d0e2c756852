-- Flights that left, each with the weather at its origin in the hour it was to leave.
-- headwater: materialization = replace
-- headwater: partition_by = origin
SELECT
    f.time_hour,
    f.carrier,
    f.flight,
    f.tailnum,
    f.origin,
    f.dest,
    f.distance,
    f.dep_delay,
    f.arr_delay,
    w.temp AS temperature,
    w.wind_speed,
    w.precip AS precipitation,
    w.visib AS visibility
FROM flights AS f
LEFT JOIN weather AS w
    ON w.origin = f.origin AND w.time_hour = f.time_hour
WHERE f.dep_delay IS NOT NULL
  AND f.arr_delay IS NOT NULL
