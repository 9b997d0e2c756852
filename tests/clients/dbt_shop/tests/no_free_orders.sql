select id from {{ ref('staged_orders') }} where price <= 0
