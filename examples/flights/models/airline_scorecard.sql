-- The airlines by how late they are: SQL over a Python model.
-- headwater: materialization = replace
SELECT
    rank() OVER (ORDER BY d.mean_delay) AS rank,
    a.name AS airline,
    d.carrier,
    d.flights,
    d.on_time,
    d.mean_delay,
    round(d.mean_delay_wet - d.mean_delay, 2) AS rain_costs
FROM airline_delays AS d
JOIN airlines AS a ON a.carrier = d.carrier
ORDER BY d.mean_delay
