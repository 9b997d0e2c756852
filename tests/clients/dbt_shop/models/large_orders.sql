{{ config(materialized='ephemeral') }}
select * from {{ ref('staged_orders') }} where price > 10
