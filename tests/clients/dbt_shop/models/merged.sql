{{ config(materialized='incremental', incremental_strategy='merge', unique_key='id') }}
select id, product, price from {{ ref('staged_orders') }}
