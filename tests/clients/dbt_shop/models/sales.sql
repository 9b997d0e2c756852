{{ config(materialized='table') }}
with staged as (
    select * from {{ ref('staged_orders') }}
)
select c.city, count(*) as orders, sum(s.price) as total
from staged s
join {{ ref('customers') }} c on c.id = s.customer
group by 1
