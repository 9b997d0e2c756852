{{ config(materialized='incremental', unique_key='day', on_schema_change='append_new_columns') }}
select day, count(*) as orders, sum(price) as total
from {{ ref('staged_orders') }}
{% if is_incremental() %}
where day >= (select max(day) from {{ this }})
{% endif %}
group by day
