-- headwater: materialization = replace
SELECT customer, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY customer
